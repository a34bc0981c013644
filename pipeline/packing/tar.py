"""The `tar` format: WebDataset shards of gray JPEG or PNG images, with the index files of DALI's reader.

`pipeline.tar_shard` says what a shard holds. Headers are USTAR with every field that could differ between machines at
zero, so the bytes are a function of the images, and of Pillow's JPEG encoder and libdeflate, alone.
"""

import io
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.image_spec import ImageSpec
from pipeline.packing.decoded import DecodedImage
from pipeline.packing.png_encode import encode_png
from pipeline.packing.shard_cut import samples_per_shard
from pipeline.packing.shard_format import Encoding, Joiner, ShardLayout, Sink
from pipeline.packing.tar_check import shard_problems
from pipeline.packing.ustar import member
from pipeline.tar_shard import BLOCK_BYTES, INDEX_SUFFIX, SAMPLE_INDEX, TARGETS, index_content, member_name

RECORD_BYTES = 20 * BLOCK_BYTES
"""A tar ends with at least two blocks of zeros, and at a multiple of this."""

JPEG_BYTES_PER_PIXEL = ((90, 0.16), (96, 0.24), (100, 0.6))
"""Up to this quality -> about what a pixel of a film takes."""

PNG_BYTES_PER_PIXEL = {8: 0.42, 16: 1.6}
"""Bits -> about what a pixel of a film takes."""


class TarFormat:
    """Writes and checks shards of format `tar`; fulfils `ShardFormat`."""

    joined: Joiner | None = None

    def samples_per_shard(self, num_samples: int, spec: ImageSpec, encoding: Encoding) -> int:
        """Return how many samples a shard holds, about 256 MiB in large packs."""
        if encoding.image == "png":
            bytes_per_pixel = PNG_BYTES_PER_PIXEL[spec.bits]
        else:
            bytes_per_pixel = next(size for quality, size in JPEG_BYTES_PER_PIXEL if encoding.quality <= quality)
        return samples_per_shard(num_samples, int(spec.num_pixels * bytes_per_pixel) + 4 * BLOCK_BYTES)

    def file_name(self, number: int) -> str:
        """Return the name of the file of shard `number`."""
        return f"shard-{number:05d}.tar"

    def known_bytes(self, layout: ShardLayout) -> int:
        """Return 0: what images take is known when they are encoded."""
        return 0

    def writer(self, sink: Sink, layout: ShardLayout, first_index: int) -> "TarWriter":
        """Begin a shard."""
        return TarWriter(sink, layout)

    def problems(self, path: Path, layout: ShardLayout, first_index: int, rejected: Collection[int]) -> list[str]:
        """Return what is wrong inside a shard: its index, a header, a number, the kind of an image, its end."""
        return shard_problems(path, layout, first_index, rejected)


class TarWriter:
    """Writes one shard sample by sample, so that memory holds one image; fulfils `ShardWriter`."""

    def __init__(self, sink: Sink, layout: ShardLayout) -> None:
        self.sink = sink
        self.layout = layout
        self.num_bytes = 0
        self.sample_indices: list[int] = []
        self.image_bytes: list[int] = []

    def add(self, sample_index: int, image: DecodedImage | None, targets_C: np.ndarray | None) -> None:
        """Append the members of a sample; a rejected one has none."""
        if image is None:
            return
        content = encode(image, self.layout.spec, self.layout.encoding)
        pieces = [
            *member(member_name(sample_index, self.layout.encoding.image), content),
            *member(member_name(sample_index, SAMPLE_INDEX), sample_index.to_bytes(8, "little")),
        ]
        if self.layout.num_targets:
            assert targets_C is not None
            assert targets_C.shape == (self.layout.num_targets,)
            pieces += member(member_name(sample_index, TARGETS), targets_C.astype("<f4").tobytes())
        self.num_bytes += self.sink.write(b"".join(pieces))
        self.sample_indices.append(sample_index)
        self.image_bytes.append(len(content))

    def close(self) -> dict[str, bytes]:
        """Append the zeros that end a tar; return the index."""
        total = -(-(self.num_bytes + 2 * BLOCK_BYTES) // RECORD_BYTES) * RECORD_BYTES
        self.sink.write(bytes(total - self.num_bytes))
        index = index_content(
            self.sample_indices,
            np.array(self.image_bytes, np.int64),
            self.layout.encoding.image,
            4 * self.layout.num_targets,
        )
        return {INDEX_SUFFIX: index}


def encode(image: DecodedImage, spec: ImageSpec, encoding: Encoding) -> bytes:
    """Return an image as a gray JPEG or PNG; the source's own bytes where they are a JPEG that fits already."""
    assert image.pixels_HW.shape == (spec.height_px, spec.width_px)
    assert image.pixels_HW.dtype == (np.uint8 if spec.bits == 8 else np.uint16)
    if encoding.image == "jpg" and image.source_jpeg is not None:
        return image.source_jpeg
    if encoding.image == "png":
        return encode_png(image.pixels_HW)
    content = io.BytesIO()
    Image.fromarray(image.pixels_HW).save(content, "JPEG", quality=encoding.quality)
    return content.getvalue()
