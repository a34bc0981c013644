"""The `raw` format: a shard is a standard .npy file, uint8 [n, S, S], that `np.load(..., mmap_mode="r")` opens."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from pipeline.packing.shard_format import Sink

MAX_SHARD_BYTES = 256 << 20
"""Pixels of the largest shard."""

TARGET_SHARDS = 64
"""A pack is cut into about so many shards or more, so that up to 64 processes have work to the end..."""

MIN_SHARD_SAMPLES = 64
"""... unless a shard would hold fewer images than this."""


class RawFormat:
    """Writes and checks shards of format `raw`; fulfils `ShardFormat`."""

    def samples_per_shard(self, num_samples: int, size_px: int) -> int:
        """Return how many samples a shard holds."""
        fitting = max(MAX_SHARD_BYTES // size_px**2, 1)
        return min(fitting, max(-(-num_samples // TARGET_SHARDS), MIN_SHARD_SAMPLES))

    def file_name(self, number: int) -> str:
        """Return the name of the file of shard `number`."""
        return f"shard-{number:05d}.npy"

    def writer(self, sink: Sink, num_samples: int, size_px: int) -> "RawWriter":
        """Begin a shard of exactly `num_samples` samples: its header is written at once."""
        return RawWriter(sink, num_samples, size_px)

    def problems(self, path: Path, num_samples: int, size_px: int, rejected: Collection[int]) -> list[str]:
        """Return what is wrong inside a shard: not such an array, or pixels where a rejected image must be zeros."""
        try:
            images_NSS = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            return [f"not a .npy file ({error})"]
        expected = (num_samples, size_px, size_px)
        if images_NSS.dtype != np.uint8 or images_NSS.shape != expected:
            return [f"an array {images_NSS.dtype} {images_NSS.shape}, expected uint8 {expected}"]
        return [f"its sample {row} is rejected but has pixels" for row in rejected if images_NSS[row].any()]


class RawWriter:
    """Writes one shard sample by sample, so that memory holds one image; fulfils `ShardWriter`."""

    def __init__(self, sink: Sink, num_samples: int, size_px: int) -> None:
        self.sink = sink
        self.num_missing = num_samples
        self.zeros_SS = np.zeros((size_px, size_px), np.uint8)
        header = {"descr": "|u1", "fortran_order": False, "shape": (num_samples, size_px, size_px)}
        np.lib.format.write_array_header_1_0(sink, header)

    def add(self, sample_index: int, pixels_SS: np.ndarray | None) -> None:
        """Append a sample; a rejected one becomes zeros."""
        pixels_SS = self.zeros_SS if pixels_SS is None else pixels_SS
        assert pixels_SS.shape == self.zeros_SS.shape
        assert pixels_SS.dtype == np.uint8
        self.sink.write(np.ascontiguousarray(pixels_SS).reshape(-1).data)
        self.num_missing -= 1

    def close(self) -> None:
        """Check that the header told the truth."""
        assert self.num_missing == 0
