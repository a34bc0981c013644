"""The `beton` format: shards of pixels that are joined into one file that FFCV's Loader opens.

A shard is a piece of the joined file: the images of its samples as `pipeline.beton.BetonLayout` lays them out, with the
empty end of a page before the sample that begins the next one. So shards are cut anywhere, written in any order, and
joined by copying.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from pipeline.beton import BetonLayout, check_beton, num_channels
from pipeline.errors import PackError
from pipeline.image_spec import ImageSpec
from pipeline.packing.decoded import DecodedImage
from pipeline.packing.shard_cut import samples_per_shard
from pipeline.packing.shard_format import Encoding, Joiner, ShardLayout, Sink

COPY_BYTES = 4 << 20
"""The shards are joined in pieces of this size."""


class BetonFormat:
    """Writes and checks format `beton`; fulfils `ShardFormat`."""

    def __init__(self) -> None:
        self.joined: Joiner | None = BetonJoiner()

    def samples_per_shard(self, num_samples: int, spec: ImageSpec, encoding: Encoding) -> int:
        """Return how many samples a shard holds."""
        return samples_per_shard(num_samples, spec.num_pixels * num_channels(encoding))

    def file_name(self, number: int) -> str:
        """Return the name of the file of shard `number`."""
        return f"shard-{number:05d}.part"

    def known_bytes(self, layout: ShardLayout) -> int:
        """Return what its pixels take."""
        return layout.num_samples * beton_layout(layout).sample_bytes

    def writer(self, sink: Sink, layout: ShardLayout, first_index: int) -> "BetonWriter":
        """Begin a shard."""
        return BetonWriter(sink, layout, first_index)

    def problems(self, path: Path, layout: ShardLayout, first_index: int, rejected: Collection[int]) -> list[str]:
        """Return what is wrong inside the joined file: its layout, pixels of a rejected image."""
        beton = beton_layout(layout)
        try:
            check_beton(path, beton)
        except (OSError, ValueError) as error:
            return [f"not the beton of this pack ({error})"]
        problems = []
        with path.open("rb") as file:
            for index in rejected:
                file.seek(beton.image_offset(index))
                if any(file.read(beton.image_bytes)):
                    problems.append(f"sample_index {index} is rejected but has pixels")
        return problems


class BetonWriter:
    """Writes one shard sample by sample, so that memory holds one image; fulfils `ShardWriter`."""

    def __init__(self, sink: Sink, layout: ShardLayout, first_index: int) -> None:
        self.sink = sink
        self.num_missing = layout.num_samples
        self.num_targets = layout.num_targets
        self.beton = beton_layout(layout)
        self.zeros_HW = np.zeros((self.beton.height_px, self.beton.width_px), np.uint8)
        self.rgb_HW3 = np.empty((*self.zeros_HW.shape, 3), np.uint8) if self.beton.num_channels == 3 else None
        self.empty_bytes = self.beton.page_bytes % self.beton.sample_bytes

    def add(self, sample_index: int, image: DecodedImage | None, targets_C: np.ndarray | None) -> None:
        """Append a sample, after the empty end of a page if it begins the next; a rejected image becomes zeros."""
        if sample_index > 0 and sample_index % self.beton.samples_per_page == 0:
            write_zeros(self.sink, self.empty_bytes)
        pixels_HW = self.zeros_HW if image is None else image.pixels_HW
        assert pixels_HW.shape == self.zeros_HW.shape
        assert pixels_HW.dtype == np.uint8
        stored = np.ascontiguousarray(pixels_HW)
        if self.rgb_HW3 is not None:
            for channel in range(3):  # twice as fast as np.repeat
                self.rgb_HW3[..., channel] = pixels_HW
            stored = self.rgb_HW3
        self.sink.write(stored.reshape(-1).data)
        if self.num_targets:
            assert targets_C is not None
            assert targets_C.shape == (self.num_targets,)
            self.sink.write(targets_C.astype("<f4").tobytes())
        self.num_missing -= 1

    def close(self) -> dict[str, bytes]:
        """Check that all samples were added."""
        assert self.num_missing == 0
        return {}


class BetonJoiner:
    """Lays the shards end to end between head and table; fulfils `Joiner`."""

    file_name = "pack.beton"

    def join(self, parts: Sequence[Path], sink: Sink, layout: ShardLayout) -> list[int]:
        """Write the file; return where in it each part begins."""
        beton = beton_layout(layout)
        step = samples_per_shard(beton.num_samples, beton.image_bytes)
        position = sink.write(beton.head())
        position += write_zeros(sink, beton.data_begin - position)
        begins = []
        for number, part in enumerate(parts):
            begins.append(position)
            position += copy(part, sink)
            last = min((number + 1) * step, beton.num_samples) - 1
            if position != (expected := beton.image_offset(last) + beton.sample_bytes):
                raise PackError(f"{part}: {position - expected:+,} bytes; continue with --resume, which packs it again")
        assert last + 1 == beton.num_samples
        write_zeros(sink, beton.table_begin - position)
        sink.write(beton.table())
        return begins


def copy(path: Path, sink: Sink) -> int:
    """Append a file; return its bytes."""
    num_copied = 0
    buffer = memoryview(bytearray(COPY_BYTES))
    with path.open("rb", buffering=0) as file:
        while num_bytes := file.readinto(buffer):
            num_copied += sink.write(buffer[:num_bytes])
    return num_copied


def write_zeros(sink: Sink, num_bytes: int) -> int:
    """Append zeros; return how many."""
    for begin in range(0, num_bytes, COPY_BYTES):
        sink.write(bytes(min(COPY_BYTES, num_bytes - begin)))
    return num_bytes


def beton_layout(layout: ShardLayout) -> BetonLayout:
    """Return the layout of a beton of these samples; what depends on their number holds for the joined file only."""
    return BetonLayout(
        num_samples=layout.num_samples,
        height_px=layout.spec.height_px,
        width_px=layout.spec.width_px,
        num_channels=num_channels(layout.encoding),
        num_targets=layout.num_targets,
    )
