"""Several manifests as one: rows one below the other, and null where a source does not label a finding.

::

    nih.parquet       Atelectasis ... Hernia                       1/0
    chexpert.parquet  Atelectasis ...        Support Devices       1/0/-1/null
    nih+chexpert      Atelectasis ... Hernia, Support Devices      null where the row's source has no such column

A row keeps everything it had, its dataset, path and split included; only its number, the `sample_index`, is new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from manifests.build import check_out, write_manifest
from manifests.errors import ConfigError, ManifestError
from manifests.findings import FINDINGS
from manifests.schema import FINDING_TYPE, REQUIRED_COLUMNS, SCHEMA_VERSION, SPLITS, finding_columns
from manifests.table import ManifestTable, read_manifest

JOINT = "+"
"""Between the datasets in the name of a merged manifest: ``nih+chexpert``."""

OF_ALL = ("schema_version", "merged", "labelled")
"""Keys of a manifest's metadata that are not kept a source."""


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """What was written, in numbers."""

    out: Path
    """The manifest."""

    dataset: str
    """Its name: those of the datasets, joined."""

    rows: Mapping[str, Mapping[str, int]]
    """Dataset -> split -> rows."""

    labelled: Mapping[str, Mapping[str, int]]
    """Finding -> dataset -> rows where it is labelled; 0 where it is null throughout."""


def merge_manifests(inputs: Sequence[Path], out: Path) -> MergeReport:
    """Write the rows of the manifests `inputs`, in this order, to `out`.

    The same inputs, whatever their names, give the same bytes.

    Raises:
        ConfigError: fewer than two inputs, one of them twice, or an `out` that cannot be replaced.
        ManifestError: an input is no manifest of this schema, or they do not fit each other: an image twice, a patient
            in two splits, one dataset with other findings. Nothing is written then.
    """
    if len(inputs) < 2:
        raise ConfigError("merge: give two manifests or more")
    repeated = [path for path in inputs if sum(path.resolve() == other.resolve() for other in inputs) > 1]
    if repeated:
        raise ConfigError(f"{repeated[0]}: given twice")
    check_out(out)
    tables = {str(path): read_manifest(path) for path in inputs}
    problems = [problem for path, table in tables.items() for problem in foreign_columns(path, table)]
    if problems:
        raise ManifestError("these manifests have columns of another schema; build them again", problems)
    labelled = union_of_labelled(tables)
    frame = concatenate(list(tables.values()))
    refuse_patients_outside_their_dataset(frame)
    refuse_repeated_images(frame, tables)
    refuse_patients_in_two_splits(frame)
    metadata = describe(list(tables.values()), frame, labelled)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(out, frame, metadata)
    except (OSError, pl.exceptions.ComputeError) as error:  # the latter is how Polars tells of a full disk
        raise ManifestError(f"--out {out}: cannot be written ({getattr(error, 'strerror', None) or error})") from error
    return MergeReport(
        out=out,
        dataset=str(metadata["dataset"]),
        rows=count_rows(frame),
        labelled=count_labelled(frame),
    )


def concatenate(tables: Sequence[ManifestTable]) -> pl.DataFrame:
    """Return the rows of all tables in the columns of the schema, with the findings that any of them has."""
    frames = [pl.DataFrame(pl.from_arrow(table.table)) for table in tables]
    findings = finding_columns(tuple(name for table in tables for name in table.findings))
    types = REQUIRED_COLUMNS | dict.fromkeys(findings, FINDING_TYPE)
    rows = pl.concat(frames, how="diagonal_relaxed")
    return rows.select(pl.col(name).cast(getattr(pl, dtype)) for name, dtype in types.items())


def union_of_labelled(tables: Mapping[str, ManifestTable]) -> dict[str, list[str]]:
    """Return dataset -> the findings that it labels.

    Raises:
        ManifestError: two manifests of one dataset label different findings: which blanks mean "not mentioned" and
            which "not labelled" could not be told any more.
    """
    found: dict[str, list[str]] = {}
    for path, table in tables.items():
        for dataset in table.datasets:
            findings = [name for name in FINDINGS if name in table.labelled(dataset)]
            if found.setdefault(dataset, findings) != findings:
                differ = sorted(set(found[dataset]) ^ set(findings))
                raise ManifestError(
                    f"{path}: labels other findings of {dataset} than the manifest before it ({', '.join(differ)}); "
                    "build both with the same version and options"
                )
    return found


def foreign_columns(path: str, table: ManifestTable) -> list[str]:
    """Return a line for every column that no manifest of this schema has."""
    known = {*REQUIRED_COLUMNS, *FINDINGS}
    return [f"{path}: unknown column {name!r}" for name in table.table.column_names if name not in known]


def refuse_patients_outside_their_dataset(frame: pl.DataFrame) -> None:
    """Refuse a patient's id without its dataset before it: patient 1 of two datasets would become one.

    Raises:
        ManifestError: naming them.
    """
    bare = frame.filter(~pl.col("patient_id").str.starts_with(pl.col("dataset") + ":"))
    if not bare.is_empty():
        examples = bare.select("dataset", "patient_id").unique(maintain_order=True).rows()
        raise ManifestError(
            f"{len(bare):,} rows with a patient_id that does not begin with its dataset, as nih:1 does; "
            "build their manifest again",
            [f"{dataset}: patient_id {patient!r}" for dataset, patient in examples],
        )


def refuse_repeated_images(frame: pl.DataFrame, tables: Mapping[str, ManifestTable]) -> None:
    """Refuse an image that stands twice, in one manifest or in two.

    Raises:
        ManifestError: naming each with the files and rows where it stands.
    """
    names = frame.select("dataset", "image_id")
    if names.n_unique() == len(names):
        return
    places = [f"{path} row {row}" for path, table in tables.items() for row in range(table.num_rows)]
    repeated = (
        names.with_columns(pl.Series("place", places))
        .group_by("dataset", "image_id", maintain_order=True)
        .agg("place")
        .filter(pl.col("place").list.len() > 1)
    )
    raise ManifestError(
        f"{len(repeated):,} images stand twice; merge manifests of different images",
        [f"{dataset} {image}: {' and '.join(where)}" for dataset, image, where in repeated.iter_rows()],
    )


def refuse_patients_in_two_splits(frame: pl.DataFrame) -> None:
    """Refuse a patient who would be trained on and tested with.

    Raises:
        ManifestError: naming them.
    """
    splits = frame.select("patient_id", "split").unique().group_by("patient_id").agg(pl.col("split").sort())
    shared = splits.filter(pl.col("split").list.len() > 1).sort("patient_id")
    if not shared.is_empty():
        raise ManifestError(
            f"{len(shared):,} patients are in two splits; build these manifests with the same seed and fractions",
            [f"patient {patient}: {' and '.join(where)}" for patient, where in shared.iter_rows()],
        )


def describe(tables: Sequence[ManifestTable], frame: pl.DataFrame, labelled: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the metadata of the merged manifest; under ``merged``, in order, that of each source and its rows."""
    parts = [part for table in tables for part in parts_of(table)]
    return {
        "schema_version": SCHEMA_VERSION,
        "dataset": JOINT.join(labelled),
        "labelled": dict(labelled),
        "sources": [{"dataset": part["dataset"], **file} for part in parts for file in part.get("sources", [])],
        "counts": {"images": len(frame), "patients": frame["patient_id"].n_unique()},
        "exclusions": _by_dataset(parts, "exclusions"),
        "exclusion_meanings": _by_dataset(parts, "exclusion_meanings"),
        "split": {"rule": "as in each of the merged manifests"},
        "merged": parts,
    }


def parts_of(table: ManifestTable) -> list[dict[str, Any]]:
    """Return the metadata of each source of a manifest, itself merged or not, with its number of rows."""
    if "merged" in table.metadata:
        return list(table.metadata["merged"])
    own = {key: value for key, value in table.metadata.items() if key not in OF_ALL}
    return [own | {"rows": table.num_rows}]


def count_rows(frame: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Return dataset -> split -> rows, datasets in the order of their first row."""
    counts = {(dataset, split): count for dataset, split, count in frame.group_by("dataset", "split").len().iter_rows()}
    datasets = frame["dataset"].unique(maintain_order=True)
    return {dataset: {split: counts.get((dataset, split), 0) for split in SPLITS} for dataset in datasets}


def count_labelled(frame: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Return finding -> dataset -> rows where it is labelled."""
    findings = [name for name in frame.columns if name in FINDINGS]
    counts = frame.group_by("dataset", maintain_order=True).agg(pl.col(name).count() for name in findings)
    return {name: dict(counts.select("dataset", name).iter_rows()) for name in findings}


def _by_dataset(parts: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any]:
    """Return ``dataset.rule`` -> value of every part; counts of parts of one dataset are added."""
    joined: dict[str, Any] = {}
    for part in parts:
        for rule, value in part.get(key, {}).items():
            name = f"{part['dataset']}.{rule}"
            joined[name] = joined[name] + value if isinstance(value, int) and name in joined else value
    return joined
