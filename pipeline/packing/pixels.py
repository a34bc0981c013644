"""The one meaning of a pixel, whatever the source and the pack's format.

Rule 2: gray, full range (0 black, 255 or 65535 white), of the stored raster, fitted by one antialiased filter.

- Gray of 1, 2, 4 bits: scaled to 0..255. Gray of 16 bits, whose window no file tells: its lowest value becomes 0, its
  highest white, linear, rounded to nearest. DICOM: `sources/dicom.py`.
- RGB, and a palette's colours: ITU-R 601 luma as Pillow's "L" computes it, (19595 R + 38470 G + 7471 B + 32768) >> 16,
  which is R where R = G = B. JPEG: the luma plane that the file stores.
- In a pack of 16 bits, 8-bit gray is multiplied by 257.
- Alpha and transparency: ignored. Gamma, colour profiles and EXIF orientation: ignored, so that boxes and sizes that
  come with a release keep fitting.
- 16-bit colour and CMYK: rejected; no radiograph needs them, and a guess would be silent.
- An image of one single value: rejected.
- Resize: `resize.py`; the same size is passed through untouched. JPEG is decoded at 1/2 or 1/4 of its size where two
  pixels are left for each one of the pack, unless the pack is exact.

What a file is, its first bytes decide; its name never does.
"""

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.image_spec import ImageSpec
from pipeline.packing.decoded import DecodedImage as DecodedImage
from pipeline.packing.rejection import Reason, Rejection
from pipeline.packing.resize import fit, framed, place
from pipeline.packing.sources.detect import HEAD_BYTES, source_of
from pipeline.packing.sources.limits import MAX_FILE_BYTES
from pipeline.packing.sources.raster import at_depth

PIXEL_RULE = "2"
"""Version of the rules above: a pack says by which its pixels were made. Changed whenever any pixel may differ."""


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
    raster = source_of(content).decode(content, spec)
    placement = place(raster.width, raster.height, spec)
    fitted_HW = fit(at_depth(raster.gray_HW, spec.bits), placement, raster.reduction)
    # One value stays one value when it is resized, so the large image is looked at only if the small one is suspicious.
    if is_constant(fitted_HW) and is_constant(raster.gray_HW):
        if raster.reduction > 1:  # a fraction of it may be of one value where the whole is not
            return decode(content, replace(spec, exact=True))
        raise Rejection(Reason.CONSTANT, f"every pixel is {raster.gray_HW[0, 0]}")
    return DecodedImage(pixels_HW=framed(fitted_HW, placement, spec), source_jpeg=raster.source_jpeg)


def is_constant(gray_HW: np.ndarray) -> bool:
    """Tell whether every pixel has the same value; the middle row alone tells it of a film that has not."""
    middle_W = gray_HW[len(gray_HW) // 2]
    return bool(middle_W.min() == middle_W.max() and gray_HW.min() == gray_HW.max())


def _read_file(path: Path) -> bytes:
    """Return the bytes of a file whose beginning promises an image of acceptable size."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # opening a pipe would wait for ever
            raise Rejection(Reason.MISSING_FILE, "no regular file")
        if about.st_size > MAX_FILE_BYTES:
            raise Rejection(Reason.TOO_LARGE, f"{about.st_size:,} bytes")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            source_of(head).check_head(head)
            return head + file.read()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Rejection(Reason.MISSING_FILE, "no such file") from error
    except OSError as error:
        raise Rejection(Reason.UNREADABLE_FILE, error.strerror or type(error).__name__) from error
