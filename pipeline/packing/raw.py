"""The `raw` format: a shard is a standard .npy file, uint8 [n, H, W], that `np.load(..., mmap_mode="r")` opens."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from pipeline.image_spec import ImageSpec
from pipeline.packing.decoded import DecodedImage
from pipeline.packing.shard_cut import samples_per_shard
from pipeline.packing.shard_format import Encoding, Joiner, ShardLayout, Sink


class RawFormat:
    """Writes and checks shards of format `raw`; fulfils `ShardFormat`."""

    joined: Joiner | None = None

    def samples_per_shard(self, num_samples: int, spec: ImageSpec, encoding: Encoding) -> int:
        """Return how many samples a shard holds."""
        return samples_per_shard(num_samples, spec.num_pixels)

    def file_name(self, number: int) -> str:
        """Return the name of the file of shard `number`."""
        return f"shard-{number:05d}.npy"

    def known_bytes(self, layout: ShardLayout) -> int:
        """Return what its pixels take."""
        return layout.num_samples * layout.spec.num_pixels

    def writer(self, sink: Sink, layout: ShardLayout, first_index: int) -> "RawWriter":
        """Begin a shard: its header is written at once."""
        return RawWriter(sink, layout)

    def problems(self, path: Path, layout: ShardLayout, first_index: int, rejected: Collection[int]) -> list[str]:
        """Return what is wrong inside a shard: not such an array, or pixels where a rejected image must be zeros."""
        try:
            images_NHW = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            return [f"not a .npy file ({error})"]
        expected = (layout.num_samples, layout.spec.height_px, layout.spec.width_px)
        if images_NHW.dtype != np.uint8 or images_NHW.shape != expected:
            return [f"an array {images_NHW.dtype} {images_NHW.shape}, expected uint8 {expected}"]
        return [
            f"sample_index {index} is rejected but has pixels"
            for index in rejected
            if images_NHW[index - first_index].any()
        ]


class RawWriter:
    """Writes one shard sample by sample, so that memory holds one image; fulfils `ShardWriter`."""

    def __init__(self, sink: Sink, layout: ShardLayout) -> None:
        self.sink = sink
        self.num_missing = layout.num_samples
        self.zeros_HW = np.zeros((layout.spec.height_px, layout.spec.width_px), np.uint8)
        header = {"descr": "|u1", "fortran_order": False, "shape": (layout.num_samples, *self.zeros_HW.shape)}
        np.lib.format.write_array_header_1_0(sink, header)

    def add(self, sample_index: int, image: DecodedImage | None, targets_C: np.ndarray | None) -> None:
        """Append a sample; a rejected one becomes zeros."""
        pixels_HW = self.zeros_HW if image is None else image.pixels_HW
        assert pixels_HW.shape == self.zeros_HW.shape
        assert pixels_HW.dtype == np.uint8
        self.sink.write(np.ascontiguousarray(pixels_HW).reshape(-1).data)
        self.num_missing -= 1

    def close(self) -> dict[str, bytes]:
        """Check that the header told the truth."""
        assert self.num_missing == 0
        return {}
