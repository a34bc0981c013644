"""Looking over a shard of the `tar` format: index, headers, numbers, and of each image what it says of itself."""

import io
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from pipeline.pack_files import Shard
from pipeline.packing.shard_format import ShardLayout
from pipeline.packing.ustar import header, member
from pipeline.tar_shard import (
    BLOCK_BYTES,
    INDEX_SUFFIX,
    SAMPLE_INDEX,
    TARGETS,
    index_content,
    member_name,
    padded,
    read_shard_index,
)


def shard_problems(path: Path, layout: ShardLayout, first_index: int, rejected: Collection[int]) -> list[str]:
    """Return what is wrong inside a shard, a line for each sample; images are not decoded."""
    shard = Shard(
        file=path.name,
        first_index=first_index,
        num_samples=layout.num_samples,
        num_bytes=path.stat().st_size,
        checksum="",
    )
    index_file = path.with_suffix(INDEX_SUFFIX)
    try:
        content = index_file.read_bytes()
        offset_n, num_bytes_n = read_shard_index(content, shard, layout.encoding.image)
    except (OSError, ValueError) as error:
        return [f"its index {index_file.name}: {error}"]
    present = np.flatnonzero(num_bytes_n)
    expected = index_content(
        (present + first_index).tolist(), num_bytes_n[present], layout.encoding.image, 4 * layout.num_targets
    )
    if content != expected:
        return [f"its index {index_file.name}: not of {layout.num_targets} targets a sample"]
    problems, rejected = [], set(rejected)
    with path.open("rb") as file:
        for row, (offset, size) in enumerate(zip(offset_n.tolist(), num_bytes_n.tolist(), strict=True)):
            problem = sample_problem(file, layout, first_index + row, offset, size, first_index + row in rejected)
            if problem:
                problems.append(f"sample_index {first_index + row}: {problem}")
        if any(file.read()):
            problems.append("it does not end with zeros")
    return problems


def sample_problem(
    file: BinaryIO, layout: ShardLayout, sample_index: int, offset: int, num_bytes: int, is_rejected: bool
) -> str:
    """Return what is wrong with the members of a sample, nothing if they are right; leave the file after them."""
    if is_rejected or not num_bytes:
        if is_rejected and num_bytes:
            return "it is rejected but has an image"
        return "" if is_rejected else "no image, and it is not rejected"
    name = member_name(sample_index, layout.encoding.image)
    file.seek(offset - BLOCK_BYTES)
    if file.read(BLOCK_BYTES) != header(name, num_bytes):
        return f"no header of {name} where the index says"
    image = file.read(padded(num_bytes))[:num_bytes]
    number = b"".join(member(member_name(sample_index, SAMPLE_INDEX), sample_index.to_bytes(8, "little")))
    if file.read(len(number)) != number:
        return f"its {SAMPLE_INDEX} is damaged"
    if layout.num_targets:
        targets_bytes = 4 * layout.num_targets
        expected = header(member_name(sample_index, TARGETS), targets_bytes)
        if file.read(BLOCK_BYTES + padded(targets_bytes))[:BLOCK_BYTES] != expected:
            return "no header of its targets"
    return image_problem(image, layout)


def image_problem(content: bytes, layout: ShardLayout) -> str:
    """Return how an encoded image differs from the pack's by its own header, nothing if it does not."""
    plugin = JpegImageFile if layout.encoding.image == "jpg" else PngImageFile
    try:
        image = plugin(io.BytesIO(content))
    except Exception as error:  # noqa: BLE001 - a damaged image makes Pillow raise what it likes
        return f"not an image ({error})"
    mode = "L" if layout.spec.bits == 8 else "I;16"
    if image.size != (layout.spec.width_px, layout.spec.height_px) or image.mode != mode:
        found = f"{image.height} x {image.width} px, mode {image.mode}"
        return f"{found}; expected {layout.spec.height_px} x {layout.spec.width_px} px, mode {mode}"
    return ""
