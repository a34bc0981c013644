"""What will be packed, decided before any image is opened: rows, their numbers, and the cut into shards."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from manifests.errors import ConfigError, ManifestError
from manifests.table import ManifestTable
from pipeline.encoding import recorded_encoding
from pipeline.pack import identity_of
from pipeline.packing.config import PackConfig
from pipeline.packing.formats import shard_format
from pipeline.packing.partial import PartialPack
from pipeline.packing.pixels import PIXEL_RULE
from pipeline.packing.shard import ShardTask


@dataclass(frozen=True, kw_only=True)
class PackPlan:
    """A pack on paper; row i of `table` is the sample with sample_index i."""

    config: PackConfig
    """What was asked for."""

    dataset: str
    """Name of the manifest's dataset, or of its datasets."""

    table: pa.Table
    """Rows of the pack's manifest, in the manifest's order."""

    paths: tuple[str, ...]
    """Image files relative to the root of their dataset, in order of sample_index."""

    datasets: tuple[str, ...]
    """Dataset of each image, in order of sample_index."""

    identity: str
    """`identity_of` the rows."""

    @property
    def num_samples(self) -> int:
        """Rows of the pack."""
        return len(self.paths)

    @property
    def samples_per_shard(self) -> int:
        """Samples of each shard but the last."""
        return shard_format(self.config.format).samples_per_shard(
            self.num_samples, self.config.spec, self.config.encoding
        )

    def to_json(self) -> bytes:
        """Return what a later run must agree with to continue this one."""
        document = {
            "format": self.config.format,
            **asdict(self.config.spec),
            **recorded_encoding(self.config.format, self.config.encoding),
            "pixel_rule": PIXEL_RULE,
            "identity": self.identity,
            "num_samples": self.num_samples,
            "samples_per_shard": self.samples_per_shard,
            "paths_sha256": hashlib.sha256("\0".join(self.paths).encode()).hexdigest(),
        }
        return (json.dumps(document, indent=1) + "\n").encode()

    def tasks(self, roots: Mapping[str, Path], partial: PartialPack) -> list[ShardTask]:
        """Return the work, one task a shard, in order of sample_index; `roots` is dataset -> folder of its release."""
        step = self.samples_per_shard
        file_name = shard_format(self.config.format).file_name
        return [
            ShardTask(
                file=partial.pack / file_name(number),
                sidecar=partial.sidecar(number),
                format=self.config.format,
                spec=self.config.spec,
                encoding=self.config.encoding,
                first_index=first,
                files=tuple(
                    roots[dataset] / path
                    for dataset, path in zip(
                        self.datasets[first : first + step], self.paths[first : first + step], strict=True
                    )
                ),
            )
            for number, first in enumerate(range(0, self.num_samples, step))
        ]


def make_plan(manifest: ManifestTable, source: Path, config: PackConfig) -> PackPlan:
    """Return the plan for the rows of `manifest`, which was read from `source`.

    Raises:
        ConfigError: a split that the manifest does not have.
        ManifestError: no rows, or paths that are not below the root; all of them, with their row numbers.
    """
    table = _rows_of_splits(manifest.table, source, config.splits)
    if table.num_rows == 0:
        raise ManifestError(f"{source}: no rows, so there is nothing to pack")
    paths = tuple(table.column("path").to_pylist())
    problems = path_problems(manifest.table.column("path").to_pylist())
    if problems:
        raise ManifestError(
            f"{source}: {len(problems):,} paths are not below the root; expected relative paths such as "
            "images/00000001_000.png; build the manifest again",
            problems,
        )
    datasets = tuple(table.column("dataset").to_pylist())
    return PackPlan(
        config=config,
        dataset=manifest.dataset,
        table=table,
        paths=paths,
        datasets=datasets,
        identity=identity_of(datasets, table.column("image_id").to_pylist()),
    )


def path_problems(paths: Sequence[str | None]) -> list[str]:
    """Return a line for every path that does not stay below the root, with its row number in the manifest."""
    problems = []
    for row, path in enumerate(paths):
        if not path:
            problems.append(f"row {row}: empty path")
        elif PurePosixPath(path).is_absolute():
            problems.append(f"row {row}: absolute path {path!r}")
        elif ".." in PurePosixPath(path).parts:
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
