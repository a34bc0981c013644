"""A shard of a `tar` pack: its members, and the DALI index beside it, as it is written and as it is read.

A sample is two or three members of a USTAR archive, next to each other, samples in order of sample_index::

    000000042.jpg            the image, `jpg` or `png`
    000000042.sample_index   int64, little endian: 8 bytes
    000000042.targets        float32 [C], little endian, NaN where null; only in packs with targets

A rejected sample has no member. Beside `shard-00000.tar` lies `shard-00000.idx` in the format of DALI's `wds2idx`,
version 1.2: a line with the number of samples, then a line a sample with extension, offset, bytes and name of each
member.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.pack_files import Shard

BLOCK_BYTES = 512
"""Headers and contents of a tar begin at multiples of this."""

INDEX_SUFFIX = ".idx"
INDEX_VERSION = "v1.2"
SAMPLE_INDEX = "sample_index"
SAMPLE_INDEX_BYTES = 8
TARGETS = "targets"


def member_name(sample_index: int, extension: str) -> str:
    """Return the name of a member: `000000042.jpg`."""
    return f"{sample_index:09d}.{extension}"


def padded(num_bytes: int) -> int:
    """Return the bytes that a content takes in a tar: whole blocks."""
    return -(-num_bytes // BLOCK_BYTES) * BLOCK_BYTES


def image_offsets(num_bytes_n: npt.NDArray[np.int64], target_bytes: int) -> npt.NDArray[np.int64]:
    """Return where each image of a shard begins, int64 [n]; it follows from the bytes of the images before it."""
    members = [SAMPLE_INDEX_BYTES, target_bytes] if target_bytes else [SAMPLE_INDEX_BYTES]
    others = sum(BLOCK_BYTES + padded(num_bytes) for num_bytes in members)
    taken_n = BLOCK_BYTES + -(-num_bytes_n // BLOCK_BYTES) * BLOCK_BYTES + others
    return np.cumsum(taken_n) - taken_n + BLOCK_BYTES


def index_content(
    sample_index_n: Sequence[int], num_bytes_n: npt.NDArray[np.int64], extension: str, target_bytes: int
) -> bytes:
    """Return the bytes of a shard's index, those that `wds2idx` would write.

    Args:
        sample_index_n: the samples that are there, ascending.
        num_bytes_n: bytes of their images.
        extension: that of the images.
        target_bytes: bytes of a sample's targets, 0 where there are none.
    """
    lines = [f"{INDEX_VERSION} {len(sample_index_n)}"]
    offset_n = image_offsets(num_bytes_n, target_bytes).tolist()
    for index, begin, num_bytes in zip(sample_index_n, offset_n, num_bytes_n.tolist(), strict=True):
        key = f"{index:09d}"
        after = begin + padded(num_bytes) + BLOCK_BYTES
        line = f"{extension} {begin} {num_bytes} {key}.{extension} {SAMPLE_INDEX} {after} 8 {key}.{SAMPLE_INDEX}"
        if target_bytes:
            line += f" {TARGETS} {after + 2 * BLOCK_BYTES} {target_bytes} {key}.{TARGETS}"
        lines.append(line)
    return ("\n".join(lines) + "\n").encode()


def read_shard_index(
    content: bytes, shard: Shard, extension: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return offset and bytes of each image of a shard, both int64 [num_samples], 0 for rejected samples.

    The index is written again from the samples and sizes that it names, and must come out the same to the byte.

    Raises:
        ValueError: damaged, or the index of another shard.
    """
    words = content.split()
    if words[:1] != [INDEX_VERSION.encode()]:
        raise ValueError(f"begins with {content[:16]!r}, expected {INDEX_VERSION!r}")
    try:
        words_a_sample = (len(words) - 2) // (int(words[1]) or 1) or 1
        sample_index_n = [int(name.partition(b".")[0]) for name in words[5::words_a_sample]]
        num_bytes_n = np.array([int(size) for size in words[4::words_a_sample]], np.int64)
        target_bytes = int(words[12]) if words_a_sample == 12 else 0
        again = index_content(sample_index_n, num_bytes_n, extension, target_bytes)
    except (IndexError, OverflowError) as error:
        raise ValueError(str(error)) from error
    if again != content:
        raise ValueError(f"damaged, or not of {extension} images")
    row_n = np.array(sample_index_n, np.int64) - shard.first_index
    if (np.diff(row_n, prepend=-1, append=shard.num_samples) < 1).any() or (num_bytes_n < 1).any():
        last = shard.first_index + shard.num_samples - 1
        raise ValueError(f"its samples are not those of {shard.file}: {shard.first_index} to {last}, ascending")
    offset_r, num_bytes_r = np.zeros((2, shard.num_samples), np.int64)
    offset_r[row_n], num_bytes_r[row_n] = image_offsets(num_bytes_n, target_bytes), num_bytes_n
    if (end := int((offset_r + num_bytes_r).max())) > shard.num_bytes:
        raise ValueError(f"it has images up to byte {end:,} of {shard.num_bytes:,}")
    return offset_r, num_bytes_r
