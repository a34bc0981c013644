"""PNG of 1 to 16 bits: gray, RGB, palette, with and without alpha, interlaced or not.

The chunks are read here: their checksums are compared (Pillow does not compare those of the pixels), and only those
that hold the picture go on to a decoder, so that no text, profile or animation in a file matters.

The usual kinds take the fast way: libdeflate inflates, `kernels.unfilter` undoes the row filters. It is taken or not by
what is in the header; where it finds anything odd, Pillow decides. So all machines accept the same files.
"""

import struct
import zlib
from dataclasses import dataclass

import deflate
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from pipeline.image_spec import ImageSpec
from pipeline.packing import kernels
from pipeline.packing.rejection import Reason, Rejection
from pipeline.packing.sources import pillow
from pipeline.packing.sources.limits import check_size
from pipeline.packing.sources.raster import Raster, stretched

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER_BYTES = 33
"""Signature and IHDR chunk."""

GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6
COLOUR_TYPES = {GRAY: "gray", RGB: "RGB", PALETTE: "palette", GRAY_ALPHA: "gray + alpha", RGBA: "RGBA"}
SAMPLES = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGBA: 4}
MAX_CHUNKS = 1 << 18
"""A film of 400 kB has 50; a file that consists of empty ones would keep us for minutes."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """The fields of the IHDR chunk that decide how a PNG is read."""

    width: int
    height: int
    bit_depth: int
    colour_type: int
    is_plain: bool
    """Not interlaced, and compressed and filtered by the only methods there are."""

    @property
    def row_bytes(self) -> int:
        """Bytes of a row that is not interlaced."""
        return (self.width * self.bit_depth * SAMPLES[self.colour_type] + 7) // 8


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """What a picture is made of."""

    palette: bytes
    """Content of the PLTE chunk; empty where there is none."""

    data: bytes
    """Content of all IDAT chunks: one zlib stream."""


def read_header(content: bytes) -> Header:
    """Return the header of a PNG; `content` needs no more than its first 29 bytes.

    Raises:
        Rejection: cut short, no header, a size or a kind that is not accepted.
    """
    if len(content) < 29:
        raise Rejection(Reason.CORRUPT, "the PNG ends within its header")
    length, name, width, height, *fields = struct.unpack_from(">I4sII5B", content, len(SIGNATURE))
    bit_depth, colour_type, *methods = fields
    if name != b"IHDR" or length != 13 or colour_type not in COLOUR_TYPES:
        raise Rejection(Reason.CORRUPT, "the PNG has no header")
    check_size(width, height)
    if bit_depth == 16 and colour_type != GRAY:
        raise Rejection(Reason.UNSUPPORTED, f"16-bit {COLOUR_TYPES[colour_type]}")
    return Header(
        width=width, height=height, bit_depth=bit_depth, colour_type=colour_type, is_plain=methods == [0, 0, 0]
    )


def read_chunks(content: bytes) -> Chunks:
    """Return what the picture is made of: every chunk is whole, its checksum fits, and the file ends as it should.

    Raises:
        Rejection: damaged, cut short or animated. What comes after the end of the picture is not looked at.
    """
    view, position = memoryview(content), len(SIGNATURE)
    palette, data = b"", []
    for _ in range(MAX_CHUNKS):
        if position + 12 > len(content):
            raise Rejection(Reason.CORRUPT, "the PNG is cut short")
        length, name = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            raise Rejection(Reason.CORRUPT, "the PNG is cut short")
        if zlib.crc32(view[position + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            raise Rejection(Reason.CORRUPT, f"the checksum of a PNG chunk {name!r} does not fit")
        if name == b"IDAT":
            data.append(view[position + 8 : end])
        elif name == b"PLTE":
            palette = bytes(view[position + 8 : end])
        elif name == b"acTL":
            raise Rejection(Reason.ANIMATED, "an animated PNG")
        elif name == b"IEND":
            return Chunks(palette=palette, data=b"".join(data))
        position = end + 4
    raise Rejection(Reason.CORRUPT, f"the PNG has more than {MAX_CHUNKS:,} chunks")


def decode(content: bytes, spec: ImageSpec) -> Raster:
    """Return a PNG as gray, at the depth of `spec` where it has 16 bits.

    Raises:
        Rejection: damaged, cut short, animated, of a kind that is not supported.
    """
    header = read_header(content)
    chunks = read_chunks(content)
    gray_HW = decode_fast(header, chunks)
    if gray_HW is None:
        gray_HW = decode_with_pillow(content[:HEADER_BYTES], header, chunks)
    return Raster.whole(stretched(gray_HW, spec.bits) if header.bit_depth == 16 else gray_HW)


def decode_fast(header: Header, chunks: Chunks) -> np.ndarray | None:
    """Return a plain PNG of whole bytes as gray, uint8 or uint16 [H, W]; None where Pillow has to look at it."""
    if kernels.library is None or header.bit_depth < 8 or not header.is_plain or header.colour_type == PALETTE:
        return None
    num_bytes = header.height * (1 + header.row_bytes)
    try:
        filtered = deflate.zlib_decompress(chunks.data, num_bytes)
    except deflate.DeflateError:
        return None
    if len(filtered) != num_bytes:
        return None
    step = SAMPLES[header.colour_type] * header.bit_depth // 8
    rows = kernels.unfilter(filtered, header.height, header.row_bytes, step)
    if rows is None:
        return None
    if header.bit_depth == 16:
        return rows.view(">u2").astype(np.uint16)
    if header.colour_type == GRAY:
        return rows
    if header.colour_type == GRAY_ALPHA:
        return rows[:, ::2]
    mode = "RGB" if header.colour_type == RGB else "RGBA"
    return pillow.gray(Image.frombuffer(mode, (header.width, header.height), rows, "raw", mode, 0, 1))


def decode_with_pillow(head: bytes, header: Header, chunks: Chunks) -> np.ndarray:
    """Return any PNG as gray, uint8 or uint16 [H, W]; `head` is its signature and its IHDR chunk.

    Raises:
        Rejection: damaged.
    """
    content = head + b"".join(
        chunk(name, data) for name, data in ((b"PLTE", chunks.palette), (b"IDAT", chunks.data)) if data
    )
    image = pillow.opened(PngImageFile, content + chunk(b"IEND", b""))
    pillow.load(image)
    return np.asarray(image) if header.bit_depth == 16 else pillow.gray(image)


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
