"""What will be packed, decided before any image is opened: rows, their numbers, and the cut into shards."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests.errors import ConfigError, ManifestError
from manifests.table import ManifestTable
from pipeline.encoding import recorded_encoding
from pipeline.pack import identity_of_manifest, strings_of
from pipeline.packing.config import PackConfig
from pipeline.packing.formats import FORMATS
from pipeline.packing.partial import PartialPack
from pipeline.packing.pixels import PIXEL_RULE
from pipeline.packing.shard import ShardTask
from pipeline.packing.sources.readers import require_readers
from pipeline.packing.targets import targets_of


@dataclass(frozen=True, kw_only=True)
class PackPlan:
    """A pack on paper; row i of `table` is the sample with sample_index i."""

    config: PackConfig
    """What was asked for."""

    dataset: str
    """Name of the manifest's dataset, or of its datasets."""

    table: pa.Table
    """Rows of the pack's manifest, in the manifest's order."""

    identity: str
    """`identity_of` the rows."""

    target_names: tuple[str, ...] = ()
    """Findings whose targets the samples carry, in order."""

    targets_NC: np.ndarray | None = None
    """float32 [N, C], NaN where null; None where samples carry no targets."""

    @property
    def num_samples(self) -> int:
        """Rows of the pack."""
        return int(self.table.num_rows)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Datasets of the rows, in the order of their first row."""
        return tuple(pc.unique(self.table.column("dataset")).to_pylist())

    @property
    def samples_per_shard(self) -> int:
        """Samples of each shard but the last."""
        return FORMATS[self.config.format].samples_per_shard(self.num_samples, self.config.spec, self.config.encoding)

    @property
    def num_shards(self) -> int:
        """Shards of the pack."""
        return -(-self.num_samples // self.samples_per_shard)

    def path_of(self, sample_index: int) -> str:
        """Return an image file relative to the root of its dataset."""
        return str(self.table.column("path")[sample_index].as_py())

    def to_json(self) -> bytes:
        """Return what a later run must agree with to continue this one."""
        document = {
            "format": self.config.format,
            **asdict(self.config.spec),
            **recorded_encoding(self.config.format, self.config.encoding),
            "pixel_rule": PIXEL_RULE,
            "pillow": metadata.version("pillow"),  # decodes and encodes JPEG, the same way for all shards
            "deflate": metadata.version("deflate"),  # encodes PNG
            "identity": self.identity,
            "num_samples": self.num_samples,
            "samples_per_shard": self.samples_per_shard,
            "paths_sha256": self._paths_sha256(),
        }
        if self.targets_NC is not None:
            document["targets_sha256"] = hashlib.sha256(self.targets_NC.tobytes()).hexdigest()
        return (json.dumps(document, indent=1) + "\n").encode()

    def task(self, number: int, roots: Mapping[str, Path], partial: PartialPack) -> ShardTask:
        """Return the work of one shard; `roots` is dataset -> folder of its release."""
        pack_format = FORMATS[self.config.format]
        first = number * self.samples_per_shard
        rows = self.table.slice(first, self.samples_per_shard)
        datasets, paths = rows.column("dataset").to_pylist(), rows.column("path").to_pylist()
        return ShardTask(
            file=(partial.parts if pack_format.joined else partial.pack) / pack_format.file_name(number),
            checksums=partial.checksums_file(number),
            sidecar=partial.sidecar(number),
            format=self.config.format,
            spec=self.config.spec,
            encoding=self.config.encoding,
            first_index=first,
            files=tuple(roots[dataset] / path for dataset, path in zip(datasets, paths, strict=True)),
            targets_nC=None if self.targets_NC is None else self.targets_NC[first : first + rows.num_rows],
        )

    def _paths_sha256(self) -> str:
        digest = hashlib.sha256()
        for path in strings_of(self.table.column("path")):
            digest.update(path.encode() + b"\0")
        return digest.hexdigest()


def make_plan(manifest: ManifestTable, source: Path, config: PackConfig) -> PackPlan:
    """Return the plan for the rows of `manifest`, which was read from `source`.

    Raises:
        ConfigError: a split that the manifest does not have, an unknown label space, or DICOM files without pydicom.
        ManifestError: no rows, or paths that are not below the root; all of them, with their row numbers.
    """
    rows = replace(manifest, table=_rows_of_splits(manifest.table, source, config.splits))
    if rows.num_rows == 0:
        raise ManifestError(f"{source}: no rows, so there is nothing to pack")
    problems = path_problems(strings_of(manifest.table.column("path")))
    if problems:
        raise ManifestError(
            f"{source}: {len(problems):,} paths are not below the root; expected relative paths such as "
            "images/00000001_000.png; build the manifest again",
            problems,
        )
    require_readers(strings_of(rows.table.column("path")))
    target_names, targets_NC = targets_of(rows, config.encoding.targets) if config.encoding.targets else ((), None)
    return PackPlan(
        config=config,
        dataset=manifest.dataset,
        table=rows.table,
        identity=identity_of_manifest(rows),
        target_names=target_names,
        targets_NC=targets_NC,
    )


def path_problems(paths: Iterator[str | None]) -> list[str]:
    """Return a line for every path that does not stay below the root, with its row number in the manifest."""
    problems = []
    for row, path in enumerate(paths):
        if not path:
            problems.append(f"row {row}: empty path")
        elif path.startswith("/"):
            problems.append(f"row {row}: absolute path {path!r}")
        elif ".." in path and ".." in PurePosixPath(path).parts:
            problems.append(f"row {row}: path {path!r} climbs with '..'")
        elif "\0" in path:
            problems.append(f"row {row}: path {path!r} has a NUL character")
    return problems


def _rows_of_splits(table: pa.Table, source: Path, splits: Sequence[str]) -> pa.Table:
    """Return the rows of `splits` in the table's order, all where none is named."""
    if not splits:
        return table
    present = sorted(pc.unique(table.column("split")).to_pylist())
    absent = [split for split in splits if split not in present]
    if absent:
        raise ConfigError(f"--split {absent[0]}: {source} has no such rows; it has {', '.join(present) or 'none'}")
    column = table.column("split")
    return table.filter(pc.is_in(column, value_set=pa.array(splits, column.type)))
