"""What prediction writes: a table of probabilities, and beside it a list of the files that have none.

Columns: path (dataset and image_id too for a manifest's rows), one a finding: its probability, float32; and where asked
for `called_<finding>`: whether that reaches the finding's threshold, null where it has none.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from manifests.atomic import atomic_path
from manifests.errors import ConfigError
from trainer.export.description import ModelDescription, Thresholds
from trainer.predict.image_files import ImageFiles

SUFFIXES = (".csv", ".parquet")
CALLED = "called_"


@dataclass(frozen=True, kw_only=True)
class RejectedFile:
    """A file that could not be read."""

    position: int
    """Which of the files."""

    reason: str
    """A word of `pipeline.packing.rejection.Reason`."""

    detail: str
    """What its decoder said."""


def table_of(
    images: ImageFiles, position_n: npt.NDArray[np.int64], probs_nC: npt.NDArray[np.float32], findings: Sequence[str]
) -> pa.Table:
    """Return the table of the files at `position_n` with their probabilities."""
    columns: dict[str, pa.Array] = {
        name: pa.array([values[position] for position in position_n.tolist()], pa.string())
        for name, values in images.names.items()
    }
    for column, finding in enumerate(findings):
        columns[finding] = pa.array(probs_nC[:, column], pa.float32())
    return pa.table(columns)


def thresholds_of(description: ModelDescription) -> Thresholds:
    """Return the thresholds of a model.

    Raises:
        ConfigError: it has none.
    """
    if description.thresholds is None:
        raise ConfigError(
            f"--thresholds: none were chosen for {description.run}, {description.checkpoint} checkpoint; run "
            "`cxr-train evaluate` on it first (and export it again), or leave the option out"
        )
    return description.thresholds


def with_calls(table: pa.Table, findings: Sequence[str], thresholds: Thresholds) -> pa.Table:
    """Return the table with a column of calls for each finding."""
    for finding in findings:
        threshold = thresholds.values.get(finding)
        probs_n = table.column(finding).to_numpy()
        called = pa.nulls(table.num_rows, pa.bool_()) if threshold is None else pa.array(probs_n >= threshold)
        table = table.append_column(CALLED + finding, called)
    return table


def rejected_path(out: Path) -> Path:
    """Return where the files without probabilities are listed."""
    return out.with_name(f"{out.stem}.rejected.csv")


def refuse_unwritable(out: Path) -> None:
    """Return if a table can be written there, before any image is looked at; its folder is made.

    Raises:
        ConfigError: it cannot, or its name does not say how.
    """
    if out.suffix not in SUFFIXES:
        raise ConfigError(f"--out {out}: expected a name that ends in {' or '.join(SUFFIXES)}")
    if out.is_dir():
        raise ConfigError(f"--out {out}: a folder; expected the name of a file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error})") from error


def write_table(out: Path, table: pa.Table) -> None:
    """Write the table as CSV or Parquet, whole or not at all, in the place of an older one.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        with atomic_path(out) as temporary:
            if out.suffix == ".csv":
                pyarrow.csv.write_csv(table, temporary)
            else:
                pq.write_table(table, temporary)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error})") from error


def write_rejected(out: Path, images: ImageFiles, rejected: Sequence[RejectedFile]) -> Path | None:
    """Write the list of files without probabilities beside the table; without any, an older list goes."""
    path = rejected_path(out)
    if not rejected:
        path.unlink(missing_ok=True)
        return None
    columns = {
        name: pa.array([values[file.position] for file in rejected], pa.string())
        for name, values in images.names.items()
    }
    for name in ("reason", "detail"):
        columns[name] = pa.array([getattr(file, name) for file in rejected], pa.string())
    write_table(path, pa.table(columns))
    return path
