"""A manifest in memory, read with pyarrow alone: what packs, loaders and training see of it.

Neither polars nor torch is imported here: a GPU machine needs torch, numpy and pyarrow only.
Shapes: N rows of the manifest, C findings.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manifests.errors import ManifestError
from manifests.findings import FINDINGS
from manifests.schema import METADATA_KEY, NEVER_NULL, REQUIRED_COLUMNS, SCHEMA_VERSION, SPLITS

Int8Array = npt.NDArray[np.int8]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ManifestTable:
    """Rows of a manifest in their order, and its metadata."""

    table: pa.Table
    """Columns of `manifests.schema`; the row number is the `sample_index` of a pack made of it."""

    metadata: dict[str, Any]
    """schema_version, dataset, sources, counts, exclusions, split."""

    @property
    def num_rows(self) -> int:
        """N, the number of images."""
        return int(self.table.num_rows)

    @property
    def dataset(self) -> str:
        """Name of the dataset that the manifest was made from."""
        return str(self.metadata["dataset"])

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets that the rows come from, in the order of their first row."""
        if "dataset" not in self.table.column_names:
            return (self.dataset,)
        return tuple(pc.unique(self.table.column("dataset")).to_pylist())

    @property
    def findings(self) -> tuple[str, ...]:
        """Finding columns that are there, in the frozen order."""
        present = set(self.table.column_names)
        return tuple(name for name in FINDINGS if name in present)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column as pyarrow holds it.

        Raises:
            KeyError: there is no such column.
        """
        return self.table.column(name)

    def strings(self, name: str) -> list[str | None]:
        """Return a text column as Python strings, None where null."""
        values: list[str | None] = self.table.column(name).to_pylist()
        return values

    def in_split(self, split: str) -> BoolArray:
        """Return bool [N]: whether a row is in `split`."""
        return self.is_any_of("split", (split,))

    def is_any_of(self, name: str, words: Sequence[str]) -> BoolArray:
        """Return bool [N]: whether a row's `name`, a text column, is one of `words`; null is not."""
        column = self.table.column(name)
        return _to_numpy(pc.is_in(column, value_set=pa.array(words, column.type)), np.bool_)

    def is_other(self, name: str, words: Sequence[str]) -> BoolArray:
        """Return bool [N]: whether a row's `name`, a text column, is known and none of `words`."""
        return ~self.is_any_of(name, words) & ~self.is_null(name)

    def is_null(self, name: str) -> BoolArray:
        """Return bool [N]: whether a row's `name` is not told."""
        return _to_numpy(pc.is_null(self.table.column(name)), np.bool_)

    def labelled(self, dataset: str) -> frozenset[str]:
        """Return the findings that `dataset`, one of those of the rows, labels."""
        return frozenset(self.metadata.get("labelled", {}).get(dataset, self.findings))


def labels_NC(table: ManifestTable, findings: Sequence[str]) -> tuple[Int8Array, BoolArray]:
    """Return the labels of `findings` and whether the source labelled them.

    Returns:
        values: int8 [N, C]: 1 present, 0 absent or not labelled, -1 uncertain.
        labelled: bool [N, C]: False where the label is null or the manifest has no such column.
    """
    values = np.zeros((table.num_rows, len(findings)), np.int8)
    labelled = np.zeros((table.num_rows, len(findings)), np.bool_)
    present = set(table.table.column_names)
    for position, name in enumerate(findings):
        if name in present:
            column = table.table.column(name)
            values[:, position] = _to_numpy(pc.fill_null(column, 0), np.int8)
            labelled[:, position] = _to_numpy(pc.is_valid(column), np.bool_)
    return values, labelled


def read_manifest(path: Path) -> ManifestTable:
    """Read a manifest.

    Raises:
        ManifestError: it is not there, is no Parquet file, is no manifest, is one of another schema version, or its
            columns are not those of the schema.
    """
    try:
        with pq.ParquetFile(path) as file:
            metadata = _metadata_of(file, path)
            table = file.read()
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: no such manifest; `cxr-prep build-manifest` writes one") from error
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ManifestError(f"{path}: cannot be read as a Parquet file ({reason}); build it again") from error
    problems = list(_column_problems(table))
    if problems:
        raise ManifestError(f"{path}: not the columns of manifest schema {SCHEMA_VERSION}; build it again", problems)
    return ManifestTable(table=table, metadata=metadata)


def _metadata_of(file: pq.ParquetFile, path: Path) -> dict[str, Any]:
    """Return the manifest's metadata, whoever wrote the file: Polars or pyarrow."""
    stored = (file.metadata.metadata or {}).get(METADATA_KEY.encode())
    try:
        metadata = json.loads(stored) if stored is not None else None
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict) or not isinstance(metadata.get("dataset"), str):
        raise ManifestError(f"{path}: a Parquet file, but no manifest; `cxr-prep build-manifest` writes one")
    version = metadata.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ManifestError(
            f"{path}: manifest schema {version!r}, this version reads {SCHEMA_VERSION!r}; "
            "build it again with `cxr-prep build-manifest`"
        )
    return metadata


def _column_problems(table: pa.Table) -> list[str]:
    problems: list[str] = []
    for name in (*REQUIRED_COLUMNS, *(name for name in FINDINGS if name in table.column_names)):
        if name not in table.column_names:
            problems.append(f"{name}: missing")
        elif not _is_of_type(table.schema.field(name).type, REQUIRED_COLUMNS.get(name, "Int8")):
            problems.append(
                f"{name}: is {table.schema.field(name).type}, expected {REQUIRED_COLUMNS.get(name, 'Int8')}"
            )
        elif name in NEVER_NULL and table.column(name).null_count:
            problems.append(f"{name}: {table.column(name).null_count:,} rows are null")
    if not problems:
        splits = set(pc.unique(table.column("split")).to_pylist())
        problems.extend(f"split: unknown value {value!r}" for value in sorted(splits - set(SPLITS)))
    return problems


def _is_of_type(found: pa.DataType, expected: str) -> bool:
    if expected == "String":
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found))
    return bool(found == {"Int8": pa.int8(), "Int32": pa.int32(), "Float32": pa.float32()}[expected])


def _to_numpy(column: pa.ChunkedArray, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.asarray(column.to_numpy(), dtype=dtype)
