"""A PNG encoder of its own, for what Pillow does not write: interlaced, 16-bit colour, two bits, lying headers."""

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column, row step and column step of each pass."""


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def header(width: int, height: int, bit_depth: int = 8, colour_type: int = 0, interlaced: bool = False) -> bytes:
    """Return an IHDR chunk."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, int(interlaced)))


def encode_png(
    samples_HWK: np.ndarray,
    *,
    bit_depth: int = 8,
    colour_type: int = 0,
    interlaced: bool = False,
    extra_chunks: bytes = b"",
) -> bytes:
    """Return a PNG of samples [H, W, K], K samples a pixel as `colour_type` wants them; no row filter."""
    height, width, _ = samples_HWK.shape
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    data = b"".join(_rows(samples_HWK[row::down, column::right], bit_depth) for row, column, down, right in passes)
    head = header(width, height, bit_depth, colour_type, interlaced)
    return SIGNATURE + head + extra_chunks + chunk(b"IDAT", zlib.compress(data, 1)) + chunk(b"IEND", b"")


def _rows(samples_HWK: np.ndarray, bit_depth: int) -> bytes:
    """Return the bytes of one pass: a filter byte 0 and the packed samples of every row."""
    if samples_HWK.size == 0:
        return b""
    flat = samples_HWK.reshape(len(samples_HWK), -1)
    if bit_depth == 16:
        packed = flat.astype(">u2").view(np.uint8)
    elif bit_depth == 8:
        packed = flat.astype(np.uint8)
    else:
        bits = (flat[..., None] >> np.arange(bit_depth)[::-1]) & 1
        packed = np.packbits(bits.reshape(len(flat), -1).astype(np.uint8), axis=1)
    return np.pad(packed, ((0, 0), (1, 0))).tobytes()
