"""What a PNG says about itself, read from its chunks before anything is decoded.

Pillow would find out most of this as well, but only after it has allocated the image, and it does not compare the
checksums of the pixel data's chunks. The walk costs 0.1 ms for a 400 kB file that takes 9 ms to decode.
"""

import struct
import zlib
from dataclasses import dataclass

from pipeline.packing.rejection import Reason, Rejection

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY = 0
COLOUR_TYPES = {GRAY: "gray", 2: "RGB", 3: "palette", 4: "gray + alpha", 6: "RGBA"}


@dataclass(frozen=True, kw_only=True)
class PngHeader:
    """The fields of the IHDR chunk that decide how a PNG is read."""

    width: int
    height: int
    bit_depth: int
    colour_type: int


def read_header(content: bytes) -> PngHeader:
    """Return the header of a PNG; `content` needs no more than its first 26 bytes.

    Raises:
        Rejection: cut short, or no header.
    """
    if len(content) < 26:
        raise Rejection(Reason.CORRUPT, "the PNG ends within its header")
    length, name, width, height, bit_depth, colour_type = struct.unpack_from(">I4sIIBB", content, len(SIGNATURE))
    if name != b"IHDR" or length != 13 or colour_type not in COLOUR_TYPES:
        raise Rejection(Reason.CORRUPT, "the PNG has no header")
    return PngHeader(width=width, height=height, bit_depth=bit_depth, colour_type=colour_type)


def check_chunks(content: bytes) -> None:
    """Return if every chunk is whole, its checksum fits, and the file is one picture that ends as it should.

    Raises:
        Rejection: damaged, cut short or animated. What comes after the end of the picture is not looked at.
    """
    view, position = memoryview(content), len(SIGNATURE)
    while position + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            raise Rejection(Reason.CORRUPT, "the PNG is cut short")
        if zlib.crc32(view[position + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            raise Rejection(Reason.CORRUPT, f"the checksum of a PNG chunk {name!r} does not fit")
        if name == b"acTL":
            raise Rejection(Reason.ANIMATED, "an animated PNG")
        if name == b"IEND":
            return
        position = end + 4
    raise Rejection(Reason.CORRUPT, "the PNG is cut short")
