"""JPEG 2000, bare codestream or in a JP2 file: gray of up to 16 bits, or 8-bit colour.

Pillow gets the codestream alone, whose size was read here: the size that a JP2 file repeats in a box of its own may be
another one.
"""

import struct
from dataclasses import dataclass

import numpy as np
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

from pipeline.image_spec import ImageSpec
from pipeline.packing.rejection import Reason, Rejection
from pipeline.packing.sources import pillow
from pipeline.packing.sources.limits import check_size
from pipeline.packing.sources.raster import Raster, stretched

CODESTREAM = b"\xff\x4f\xff\x51"
JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
SIGNATURES = (JP2, CODESTREAM)
END = b"\xff\xd9"
SYCC = 18
"""Colour space of a JP2 file whose three components are luma and chroma, not RGB."""

MAX_TILES = 65_535


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What the SIZ marker of a codestream says."""

    width: int
    height: int
    num_components: int
    precision: int
    is_signed: bool


def read_frame(codestream: bytes) -> Frame:
    """Return the size and the depth of a codestream.

    Raises:
        Rejection: cut short, without them, a size that is not accepted, or more tiles than the standard knows.
    """
    if len(codestream) < 45 or not codestream.startswith(CODESTREAM):
        raise Rejection(Reason.CORRUPT, "the JPEG 2000 codestream ends within its header, or has none")
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, num_components, depth = struct.unpack_from(
        ">8IHB", codestream, 8
    )
    if not (tile_width and tile_height and num_components and tile_left <= left <= right and tile_top <= top <= bottom):
        raise Rejection(Reason.CORRUPT, "the JPEG 2000 header makes no sense")
    check_size(right - left, bottom - top)
    num_tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    if num_tiles > MAX_TILES:
        raise Rejection(Reason.CORRUPT, f"JPEG 2000 of {num_tiles:,} tiles")
    return Frame(
        width=right - left,
        height=bottom - top,
        num_components=num_components,
        precision=(depth & 0x7F) + 1,
        is_signed=bool(depth & 0x80),
    )


def decode(content: bytes, spec: ImageSpec) -> Raster:
    """Return JPEG 2000 as gray, at the depth of `spec` where it has more than 8 bits.

    Raises:
        Rejection: damaged, cut short, of a kind that is not supported.
    """
    codestream = codestream_of(content)
    frame = read_frame(codestream)
    check_kind(frame)
    check_whole(codestream)
    image = pillow.opened(Jpeg2KImageFile, codestream)
    if image.size != (frame.width, frame.height):
        raise Rejection(Reason.CORRUPT, "the JPEG 2000 header was read in two ways")
    pillow.load(image)
    if image.mode == "I;16":
        return Raster.whole(stretched(np.asarray(image), spec.bits))
    return Raster.whole(pillow.gray(image))


def check_whole(codestream: bytes) -> None:
    """Return if a codestream has its end; without it the decoder would fill what is missing with gray.

    Raises:
        Rejection: it is cut short.
    """
    if END not in codestream[-4:]:  # a byte or two may fill it up
        raise Rejection(Reason.CORRUPT, "the JPEG 2000 codestream is cut short")


def check_kind(frame: Frame) -> None:
    """Return if a codestream can be decoded.

    Raises:
        Rejection: a kind that is not supported.
    """
    if frame.is_signed or frame.precision > 16 or (frame.precision > 8 and frame.num_components > 1):
        signed = "signed " if frame.is_signed else ""
        raise Rejection(
            Reason.UNSUPPORTED, f"JPEG 2000 of {frame.num_components} {signed}components of {frame.precision} bits"
        )
    if frame.num_components > 4:
        raise Rejection(Reason.UNSUPPORTED, f"JPEG 2000 of {frame.num_components} components")


def codestream_of(content: bytes) -> bytes:
    """Return the codestream of a JP2 file; a bare one as it is.

    Raises:
        Rejection: there is none, the file is cut short, or its components are not gray or RGB.
    """
    if content.startswith(CODESTREAM):
        return content
    for name, box in boxes(content):
        if name == b"jp2h":
            for inner, fields in boxes(box):
                if inner == b"pclr":
                    raise Rejection(Reason.UNSUPPORTED, "JPEG 2000 with a palette")
                if inner == b"colr" and fields[:1] == b"\1" and fields[3:7] == SYCC.to_bytes(4, "big"):
                    raise Rejection(Reason.UNSUPPORTED, "JPEG 2000 of luma and chroma")
        elif name == b"jp2c":
            return box
    raise Rejection(Reason.CORRUPT, "the JP2 file holds no codestream")


def boxes(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return name and content of each box of a JP2 file, or of a box of boxes.

    Raises:
        Rejection: a box is cut short.
    """
    found, position = [], 0
    while position + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, position)
        begin = position + 8
        if length == 1 and begin + 8 <= len(content):
            (length,) = struct.unpack_from(">Q", content, begin)
            begin += 8
        elif length == 0:
            length = len(content) - position
        end = position + length
        if end < begin or end > len(content):
            raise Rejection(Reason.CORRUPT, "a box of the JP2 file is cut short")
        found.append((name, content[begin:end]))
        position = end
    return found
