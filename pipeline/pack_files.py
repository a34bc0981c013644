"""The files of a pack that hold pixels, as pack.json lists them."""

from dataclasses import dataclass


def num_shards(count: int) -> str:
    """Return a number of shards for people."""
    return "1 shard" if count == 1 else f"{count:,} shards"


@dataclass(frozen=True, kw_only=True)
class SideFile:
    """A small file that belongs to a shard, for example its index."""

    file: str
    """Name within the pack's folder."""

    num_bytes: int
    """Size of the file."""

    sha256: str
    """Checksum of the file, hexadecimal."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of pixels."""

    file: str
    """Name within the pack's folder."""

    first_index: int
    """sample_index of its first sample."""

    num_samples: int
    """Samples it holds, rejected ones included."""

    num_bytes: int
    """Size of the file."""

    checksum: str
    """Checksum of the file by the algorithm that it names (`pipeline.file_checksum`)."""

    side_files: tuple[SideFile, ...] = ()
    """Small files beside it."""
