"""What a format must do to be written shard by shard."""

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import numpy as np


class Sink(Protocol):
    """Where the bytes of a shard go."""

    def write(self, content: bytes | memoryview, /) -> int:
        """Append `content`; return how many bytes that were."""


class ShardWriter(Protocol):
    """Takes the samples of one shard in order of their sample_index."""

    def add(self, sample_index: int, pixels_SS: np.ndarray | None) -> None:
        """Append a sample, uint8 [S, S]; None is a rejected image."""

    def close(self) -> None:
        """Append what comes after the last sample."""


class ShardFormat(Protocol):
    """How a format cuts a pack into shards, writes one and looks it over; holds no state."""

    def samples_per_shard(self, num_samples: int, size_px: int) -> int:
        """Return how many samples a shard holds; the last one may hold fewer. It never depends on the machine."""

    def file_name(self, number: int) -> str:
        """Return the name of the file of shard `number`."""

    def writer(self, sink: Sink, num_samples: int, size_px: int) -> ShardWriter:
        """Begin a shard of exactly `num_samples` samples."""

    def problems(self, path: Path, num_samples: int, size_px: int, rejected: Collection[int]) -> list[str]:
        """Return what is wrong inside a shard; `rejected` are its rejected samples, counted from its first one."""
