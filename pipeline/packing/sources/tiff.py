"""TIFF of one page: gray of up to 16 bits, or 8-bit colour, in the compressions that radiographs come in."""

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile

from pipeline.image_spec import ImageSpec
from pipeline.packing.rejection import Reason, Rejection
from pipeline.packing.sources import pillow
from pipeline.packing.sources.limits import MAX_PIXELS
from pipeline.packing.sources.raster import Raster, stretched

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BITS, COMPRESSION, PHOTOMETRIC, ROWS_PER_STRIP, SAMPLES = 258, 259, 262, 278, 277
TILE_WIDTH, TILE_HEIGHT, SAMPLE_FORMAT = 322, 323, 339
WHITE_IS_ZERO, UNSIGNED = 0, 1
COMPRESSIONS = {1: "none", 2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", 7: "JPEG", 8: "deflate"} | {
    32773: "PackBits",
    32946: "deflate",
}
"""Those whose decoders need no more memory than a strip or a tile."""

MODES_8_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "YCbCr")
MODES_16_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


def decode(content: bytes, spec: ImageSpec) -> Raster:
    """Return a TIFF as gray, at the depth of `spec` where it has more than 8 bits; white-is-zero is inverted.

    Raises:
        Rejection: damaged, cut short, of several pages, of a kind that is not supported.
    """
    try:
        image = pillow.opened(TiffImageFile, content)
    except Rejection as rejection:
        if rejection.detail == "unknown pixel mode":  # a sound file of a kind that Pillow has no name for
            raise Rejection(Reason.UNSUPPORTED, "TIFF of an unknown pixel mode") from rejection
        raise
    check_kind(image)
    pillow.load(image)
    if image.mode not in MODES_16_BIT:
        return Raster.whole(pillow.gray(image))
    gray_HW = np.asarray(image).astype(np.uint16)
    if image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow inverts up to 8 bits only
        gray_HW = np.uint16(65_535) - gray_HW
    return Raster.whole(stretched(gray_HW, spec.bits))


def check_kind(image: TiffImageFile) -> None:
    """Return if an opened TIFF can be decoded, and in no more memory than its size asks for.

    Raises:
        Rejection: several pages, or a kind that is not supported.
    """
    tags = image.tag_v2
    if image.is_animated:
        raise Rejection(Reason.ANIMATED, "a TIFF of several pages")
    compression = tags.get(COMPRESSION, 1)
    if compression not in COMPRESSIONS:
        raise Rejection(Reason.UNSUPPORTED, f"TIFF of compression {compression}")
    bits = tags.get(BITS, (1,))
    if max(bits) > 8 and tags.get(SAMPLES, 1) > 1:
        raise Rejection(Reason.UNSUPPORTED, f"TIFF of {tags.get(SAMPLES)} samples of {max(bits)} bits")
    if max(tags.get(SAMPLE_FORMAT, (UNSIGNED,))) != UNSIGNED or image.mode not in (*MODES_8_BIT, *MODES_16_BIT):
        raise Rejection(Reason.UNSUPPORTED, f"TIFF of mode {image.mode}, samples not unsigned or too deep")
    tile_pixels = tags.get(TILE_WIDTH, 1) * tags.get(TILE_HEIGHT, 1)
    if tile_pixels > max(4 * image.width * image.height, 1 << 20) or tile_pixels > MAX_PIXELS:
        raise Rejection(Reason.TOO_LARGE, f"TIFF tiles of {tags.get(TILE_WIDTH)} x {tags.get(TILE_HEIGHT)} px")
