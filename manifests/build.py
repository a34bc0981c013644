"""From a release to its manifest: the steps that all datasets share.

::

    list the folders once -> dataset.read_labels -> match rows and files -> split by patient -> write, atomically
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import polars as pl

from manifests import left_out
from manifests.atomic import atomic_path
from manifests.dataset import OFFICIAL, Dataset, Labels
from manifests.datasets import dataset
from manifests.errors import ConfigError, ManifestError
from manifests.fraction import FRACTION_VERSION
from manifests.listing import list_release
from manifests.matching import match
from manifests.options import resolve_options
from manifests.release import Release
from manifests.runs import begins_run, count_distinct
from manifests.schema import FINDING_TYPE, METADATA_KEY, REQUIRED_COLUMNS, SCHEMA_VERSION, SPLITS, finding_columns
from manifests.side_tables import LEFT_OUT, UNMAPPED, side_table_path, written_beside
from manifests.splits import TEST_FRACTION, SplitConfig, split_column

ARROW_SCHEMA_KEY = "ARROW:schema"
"""Key of a Parquet file's metadata by which Arrow's readers, Polars among them, know the types that were written."""

PARQUET_MAGIC = b"PAR1"
ROWS_PER_GROUP = 131_072
"""Fixed, so that the bytes do not depend on the number of threads."""


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """What `cxr-prep build-manifest` is asked to do."""

    dataset: str
    """Name in the registry of `manifests.datasets`."""

    root: Path
    """Folder of the release."""

    out: Path
    """Parquet file to write; its folder is made where it is missing."""

    images: str | None = None
    """Folder below the root to take images from; None: anywhere below the root."""

    allow_missing_images: bool = False
    """Keep label rows without a file, with the path that the release would give them."""

    split: SplitConfig = field(default_factory=SplitConfig)
    """How patients are drawn where the release leaves the choice."""

    preset: str | None = None
    """One of the dataset's presets."""

    options: Mapping[str, str] = field(default_factory=dict)
    """Choices of the dataset's own, over those of the preset."""


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What was written, in numbers."""

    title: str
    """Full name of the dataset."""

    out: Path
    """The manifest."""

    side_tables: Mapping[str, Path]
    """Name -> table that was written beside the manifest: what was left out, words without a finding, ..."""

    split_rule: str
    """How the rows were split, in words."""

    splits: Mapping[str, tuple[int, int]]
    """Split -> number of images, number of patients."""

    positives: Mapping[str, Mapping[str, int]]
    """Finding -> split -> rows where it is present."""

    exclusions: Mapping[str, int]
    """Rule of the dataset or of `manifests.left_out.MEANING` -> what it left out."""

    meanings: Mapping[str, str]
    """Rule -> what it counts, in words."""

    num_unmapped: int
    """Distinct words that name no finding."""

    notes: tuple[str, ...]
    """What a person should know about the choices made."""

    elapsed_s: float
    """Seconds from the first look at the release to the manifest on disk."""

    @property
    def left_out(self) -> Path | None:
        """List of what was left out; None where nothing was."""
        return self.side_tables.get(LEFT_OUT)


def build_manifest(config: BuildConfig) -> BuildReport:
    """Read the release, write the manifest and the list of what was left out, and return what was written.

    The same input gives the same bytes, wherever the root lies: neither a time nor an absolute path is in the file.

    Raises:
        ConfigError: an option that cannot work.
        ManifestError: a release that cannot be used; nothing is written then.
    """
    begin_s = time.perf_counter()
    source = dataset(config.dataset)
    check_out(config.out)
    options = resolve_options(source.name, source.options, source.presets, preset=config.preset, given=config.options)
    release = open_release(config, source, options)
    labels = source.read_labels(release)
    matched, lines = match(
        labels, release.listing, config.root, parts=source.match_parts, allow_missing=config.allow_missing_images
    )
    split = split_column(matched["patient_id"], matched[OFFICIAL] if labels.has_official_split else None, config.split)
    num_without_file = int(matched["has_file"].not_().sum())
    findings = labelled_findings(source, labels)
    # `hstack` leaves columns in the pieces that they were made of, and a lazy frame is made while it is written: the
    # table is copied as a whole nowhere.
    rows = matched.hstack([split])
    frame = conform(rows.lazy().with_columns(dataset=pl.lit(source.name, pl.Enum([source.name]))), findings)
    if num_without_file:
        release.notes.append(f"{num_without_file:,} of the rows have no file: they serve statistics, not packs")
    meanings = {**source.exclusions, **left_out.MEANING}
    exclusions = dict.fromkeys(meanings, 0) | dict(lines["reason"].value_counts().iter_rows())
    if rows.is_empty():
        counts = [f"{meanings[rule]}: {count:,}" for rule, count in exclusions.items() if count]
        raise ManifestError(f"{config.root}: no label row is left; do the images belong to this label file?", counts)
    splits = count_splits(rows)
    metadata = describe(config, source, release, labels, splits, exclusions, num_without_file)
    tables = {LEFT_OUT: lines, UNMAPPED: unmapped_terms(labels), **labels.side_tables}
    try:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(config.out, tables):
            write_manifest(config.out, frame, metadata)
    except (OSError, pl.exceptions.ComputeError) as error:  # the latter is how Polars tells of a full disk
        reason = getattr(error, "strerror", None) or error
        raise ManifestError(f"--out {config.out}: cannot be written ({reason})") from error
    return BuildReport(
        title=source.title,
        out=config.out,
        side_tables={name: side_table_path(config.out, name) for name, table in tables.items() if not table.is_empty()},
        split_rule=describe_split(labels, config.split),
        splits=splits,
        positives=count_positives(rows, findings),
        exclusions=exclusions,
        meanings=meanings,
        num_unmapped=len(labels.unmapped),
        notes=tuple(release.notes),
        elapsed_s=time.perf_counter() - begin_s,
    )


def check_out(out: Path) -> None:
    """Refuse, before any work, to replace a folder, a device, or a file of another kind, the label file say.

    Raises:
        ConfigError: `out` is one.
    """
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a folder; give the path of a .parquet file")
    try:
        replaceable = not out.exists() or (out.is_file() and _begins_like_parquet(out))
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be read ({error.strerror}); give another path") from error
    if not replaceable:
        raise ConfigError(f"--out {out}: exists and is no Parquet file; give another path or delete it")


def open_release(config: BuildConfig, source: Dataset, options: Mapping[str, str]) -> Release:
    """List the release once.

    Raises:
        ConfigError: the root is no folder, or there is no image below `--images`.
        ManifestError: a folder cannot be read, or there is no image at all.
    """
    if not config.root.is_dir():
        raise ConfigError(f"--root {config.root}: no such folder; give the folder of the {source.title} download")
    listing = list_release(config.root, suffixes=source.image_suffixes, documents=frozenset(source.documents))
    if not config.allow_missing_images and not listing.images:
        raise ManifestError(
            f"{config.root}: no image ({', '.join(source.image_suffixes)}) in this folder or below it; "
            "unpack the archives here, or give --allow-missing-images for a manifest of the labels alone"
        )
    if config.images is not None:
        listing = listing.below(config.images)
    return Release(root=config.root, listing=listing, options=options)


def describe(
    config: BuildConfig,
    source: Dataset,
    release: Release,
    labels: Labels,
    splits: Mapping[str, tuple[int, int]],
    exclusions: Mapping[str, int],
    num_without_file: int,
) -> dict[str, object]:
    """Return the manifest's metadata: nothing in it depends on when or where the manifest is built."""
    return {
        "schema_version": SCHEMA_VERSION,
        "dataset": config.dataset,
        "preset": config.preset,
        "options": dict(release.options),
        "labelled": {source.name: list(labelled_findings(source, labels))},
        "sources": [file._asdict() for file in release.sources],
        "counts": {
            "images": sum(images for images, _ in splits.values()),
            "patients": sum(patients for _, patients in splits.values()),  # no patient is in two splits
            "label_rows": len(labels.frame) + (0 if labels.excluded is None else len(labels.excluded)),
            "files": release.listing.num_images,
            "rows_kept_without_file": num_without_file,
            **labels.counts,
        },
        "exclusions": dict(exclusions),
        "exclusion_meanings": {**source.exclusions, **left_out.MEANING},
        "unmapped_terms": dict(unmapped_terms(labels).iter_rows()),
        "split": {
            "rule": labels.split_rule
            or ("official lists, validation by patient" if labels.has_official_split else "by patient"),
            "seed": config.split.seed,
            "fraction_version": FRACTION_VERSION,
            "valid_fraction": config.split.valid_fraction,
            "test_fraction": None if labels.has_official_split else TEST_FRACTION,
        },
    }


def labelled_findings(source: Dataset, labels: Labels) -> tuple[str, ...]:
    """Return the findings that the rows are labelled for, in the frozen order."""
    return source.vocabulary.findings if labels.labelled is None else finding_columns(labels.labelled)


def unmapped_terms(labels: Labels) -> pl.DataFrame:
    """Return columns term and count, the most frequent first."""
    terms = sorted(labels.unmapped.items(), key=lambda item: (-item[1], item[0]))
    return pl.DataFrame(terms, schema={"term": pl.String, "count": pl.Int64}, orient="row")


def conform(frame: pl.LazyFrame, findings: tuple[str, ...]) -> pl.LazyFrame:
    """Return `frame` with exactly the columns of the schema, in order; what the release does not tell is null.

    Text may be an Enum still: see `write_manifest`.
    """
    known = frame.collect_schema()
    types = REQUIRED_COLUMNS | dict.fromkeys(findings, FINDING_TYPE)
    return frame.select(
        pl.col(name)
        if dtype == "String" and isinstance(known.get(name), pl.Enum)
        else (pl.col(name) if name in known else pl.lit(None)).cast(getattr(pl, dtype)).alias(name)
        for name, dtype in types.items()
    )


def write_manifest(path: Path, frame: pl.DataFrame | pl.LazyFrame, metadata: Mapping[str, object]) -> None:
    """Write `frame` with `metadata` to `path`, whole or not at all; an Enum is written fast, and read as text."""
    schema = frame.collect_schema()
    as_text = {name: pl.String() if isinstance(dtype, pl.Enum) else dtype for name, dtype in schema.items()}
    with atomic_path(path) as temporary:
        frame.lazy().sink_parquet(
            temporary,
            metadata={METADATA_KEY: json.dumps(metadata), ARROW_SCHEMA_KEY: arrow_schema(as_text)},
            row_group_size=ROWS_PER_GROUP,
            # Nobody asks for the rest: a quarter of the time, and no byte more.
            compression_level=1,
            statistics=False,
        )


def arrow_schema(schema: Mapping[str, pl.DataType]) -> str:
    """Return what Polars writes into a Parquet file for readers to know the types of its columns by."""
    file = BytesIO()
    pl.DataFrame(schema=schema).write_parquet(file)
    file.seek(0)
    return pl.read_parquet_metadata(file)[ARROW_SCHEMA_KEY]


def describe_split(labels: Labels, config: SplitConfig) -> str:
    """Return how the rows were split, in words."""
    valid, seed = f"{config.valid_fraction:.0%}", f"seed {config.seed}"
    if labels.split_rule is not None:
        return labels.split_rule
    if labels.has_official_split:
        return f"official lists; {valid} of the patients of training are in validation ({seed})"
    train = f"{1 - config.valid_fraction - TEST_FRACTION:.0%}"
    return (
        f"NO official lists here, so patients were drawn ({seed}): {train} train, {valid} valid, {TEST_FRACTION:.0%} "
        "test; results are not comparable with published ones"
    )


def count_splits(rows: pl.DataFrame) -> dict[str, tuple[int, int]]:
    """Return split -> number of images, number of patients."""
    in_split = {split: rows["split"] == split for split in SPLITS}
    begins = begins_run(rows["patient_id"])  # of a patient's rows, which mostly stand together, one is enough
    return {
        split: (int(there.sum()), count_distinct(rows["patient_id"].filter(there & begins)))
        for split, there in in_split.items()
    }


def count_positives(rows: pl.DataFrame, findings: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Return finding -> split -> rows where it is present."""
    in_split = {split: rows["split"] == split for split in SPLITS}
    present = {name: rows[name] == 1 for name in findings}
    return {
        name: {split: int((here & there).sum()) for split, here in in_split.items()} for name, there in present.items()
    }


def _begins_like_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
