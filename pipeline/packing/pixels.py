"""The one meaning of a pixel, whatever the source and the pack's format.

Rule 1: 8-bit gray, full range (0 black, 255 white), of the stored raster; stretched to a square by one antialiased
filter.

- Gray of 1, 2, 4 bits: scaled to 0..255. Gray of 16 bits, whose window no PNG tells: its lowest value becomes 0,
  its highest 255, linear, rounded to nearest.
- RGB, and a palette's colours: ITU-R 601 luma as Pillow's "L" computes it, (19595 R + 38470 G + 7471 B + 32768) >> 16,
  which is R where R = G = B.
- Alpha and transparency: ignored. Gamma, colour profiles and EXIF orientation: ignored, so that boxes and sizes that
  come with a release keep fitting.
- 16-bit colour and CMYK: rejected; no radiograph needs them, and a guess would be silent.
- An image of one single value: rejected.
- Resize: Pillow's BILINEAR, a triangle filter widened by the scale when it shrinks (antialiased), over the whole image
  (`square`); the same size is passed through untouched.

Pillow's plug-ins are called by name, never `Image.open`: no global limit of Pillow decides, no other format is
guessed at, and nothing is allocated before the size in the header was accepted.
"""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from pipeline.image_spec import ImageSpec
from pipeline.packing import png
from pipeline.packing.decoded import DecodedImage as DecodedImage
from pipeline.packing.rejection import Reason, Rejection

PIXEL_RULE = "1"
"""Version of the rules above: a pack says by which its pixels were made. Changed whenever any pixel may differ."""

MAX_PIXELS = 100_000_000
"""Larger images are rejected; the largest radiographs, stitched long-leg films, have about 40 million."""

MAX_FILE_BYTES = 1 << 30
"""Larger files are rejected unread."""

JPEG_SIGNATURE = b"\xff\xd8\xff"
JPEG_MODES = ("L", "RGB")
HEAD_BYTES = 32


def read_image(path: Path, spec: ImageSpec) -> DecodedImage:
    """Return the pixels of an image file by rule `PIXEL_RULE`.

    Raises:
        Rejection: the file has no usable pixels; the reason and the detail say why, without naming the folder.
    """
    return decode(_read_file(path), spec)


def decode(content: bytes, spec: ImageSpec) -> DecodedImage:
    """Return the pixels of an encoded image by rule `PIXEL_RULE`.

    Raises:
        Rejection: see `read_image`.
    """
    check_head(content[:HEAD_BYTES])
    gray = _decode_png(content) if content.startswith(png.SIGNATURE) else _decode_jpeg(content)
    pixels = gray
    if gray.size != (spec.width_px, spec.height_px):
        pixels = gray.resize((spec.width_px, spec.height_px), Image.Resampling.BILINEAR, reducing_gap=None)
    # One value stays one value when it is resized, so the large image is looked at only if the small one is suspicious.
    if is_constant(pixels) and is_constant(gray):
        raise Rejection(Reason.CONSTANT, f"every pixel is {gray.getpixel((0, 0))}")
    return DecodedImage(pixels_HW=np.asarray(pixels))


def is_constant(gray: Image.Image) -> bool:
    """Tell whether every pixel has the same value."""
    low, high = gray.getextrema()
    return low == high


def check_head(head: bytes) -> None:
    """Return if a file that begins with `head` may be an image of acceptable size.

    Raises:
        Rejection: empty, not an image, or (PNG) a size that is not accepted.
    """
    if not head:
        raise Rejection(Reason.EMPTY_FILE, "0 bytes")
    if head.startswith(png.SIGNATURE):
        header = png.read_header(head)
        check_size(header.width, header.height)
        if header.bit_depth == 16 and header.colour_type != png.GRAY:
            raise Rejection(Reason.UNSUPPORTED, f"16-bit {png.COLOUR_TYPES[header.colour_type]}")
    elif not head.startswith(JPEG_SIGNATURE):
        raise Rejection(Reason.NOT_AN_IMAGE, f"neither PNG nor JPEG; begins with {head[:16]!r}")


def check_size(width: int, height: int) -> None:
    """Return if an image of this size is accepted.

    Raises:
        Rejection: nothing to see, or more than `MAX_PIXELS`.
    """
    if width <= 0 or height <= 0:
        raise Rejection(Reason.ZERO_SIZE, f"{width} x {height} px")
    if width * height > MAX_PIXELS:
        raise Rejection(Reason.TOO_LARGE, f"{width} x {height} px")


def _read_file(path: Path) -> bytes:
    """Return the bytes of a file whose beginning promises an image of acceptable size."""
    try:
        with path.open("rb") as file:
            num_bytes = os.fstat(file.fileno()).st_size
            if num_bytes > MAX_FILE_BYTES:
                raise Rejection(Reason.TOO_LARGE, f"{num_bytes:,} bytes")
            head = file.read(HEAD_BYTES)
            check_head(head)
            return head + file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise Rejection(Reason.MISSING_FILE, "no such file") from error
    except OSError as error:
        raise Rejection(Reason.UNREADABLE_FILE, error.strerror or type(error).__name__) from error


def _decode_png(content: bytes) -> Image.Image:
    """Return a PNG as 8-bit gray."""
    png.check_chunks(content)
    image = _load(PngImageFile, content)
    if image.mode == "I;16":
        return Image.fromarray(stretch_16_bit(np.asarray(image)))
    return _gray(image)


def _decode_jpeg(content: bytes) -> Image.Image:
    """Return a JPEG as 8-bit gray."""
    image = _load(JpegImageFile, content)
    if image.mode not in JPEG_MODES:
        raise Rejection(Reason.UNSUPPORTED, f"JPEG of mode {image.mode}")
    return _gray(image)


def _load(plugin: type[PngImageFile] | type[JpegImageFile], content: bytes) -> Image.Image:
    """Return the decoded image, its size accepted before its memory is allocated."""
    try:
        image = plugin(io.BytesIO(content))
        check_size(*image.size)
        image.load()
    except (Rejection, MemoryError):
        raise
    except Exception as error:
        # A damaged file makes a decoder raise what it likes: OSError, SyntaxError, ValueError, struct.error, ...

        raise Rejection(Reason.CORRUPT, str(error) or type(error).__name__) from error
    return image


def _gray(image: Image.Image) -> Image.Image:
    """Return an 8-bit image as gray, alpha and transparency ignored."""
    image.info.pop("transparency", None)  # else Pillow warns, or maps the transparent colour
    return image if image.mode == "L" else image.convert("L")


def stretch_16_bit(gray_HW: np.ndarray) -> np.ndarray:
    """Return 16-bit gray as 8-bit: its lowest value 0, its highest 255, linear, rounded to nearest; uint8 [H, W].

    In whole numbers over a table of 65,536 entries, so the result is the same on every machine.
    """
    low, high = int(gray_HW.min()), int(gray_HW.max())
    span = max(high - low, 1)
    table = np.clip(np.arange(65_536) - low, 0, span)
    table = ((table * 255 + span // 2) // span).astype(np.uint8)
    return np.take(table, gray_HW)
