"""JPEG 2000 sources against the pixels that were written, and what is refused."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from pipeline.image_spec import ImageSpec
from pipeline.packing.pixels import decode
from pipeline.packing.rejection import Reason, Rejection
from pipeline.packing.sources import jpeg2000
from tests.pipeline.test_pixels import naive_luma
from tests.pipeline.test_sources_tiff import DEEP, GRAY, RGB, SPEC


def encoded(pixels: np.ndarray, *, bare: bool = False, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG2000", no_jp2=bare, **options)
    return buffer.getvalue()


def rejection(content: bytes) -> Rejection:
    with pytest.raises(Rejection) as caught:
        decode(content, SPEC)
    return caught.value


@pytest.mark.parametrize("bare", [False, True])
def test_lossless_gray_and_rgb_keep_their_pixels(bare: bool) -> None:
    np.testing.assert_array_equal(decode(encoded(GRAY, bare=bare), SPEC).pixels_HW, GRAY)
    np.testing.assert_array_equal(decode(encoded(RGB, bare=bare, mct=1), SPEC).pixels_HW, naive_luma(RGB))


def test_16_bits_are_stretched() -> None:
    low, high = int(DEEP.min()), int(DEEP.max())
    expected = (DEEP.astype(np.float64) - low) * 255 / (high - low)
    assert np.abs(decode(encoded(DEEP), SPEC).pixels_HW - expected).max() <= 0.5


def test_every_cut_is_refused() -> None:
    for content in (encoded(GRAY), encoded(GRAY, bare=True)):
        for length in range(12, len(content) - 3):
            assert rejection(content[:length]).reason == Reason.CORRUPT


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (8, struct.pack(">II", 40_000, 40_000), Reason.TOO_LARGE),
        (8, struct.pack(">II", 0, 0), Reason.ZERO_SIZE),
        (24, struct.pack(">II", 0, 0), Reason.CORRUPT),
        (42, b"\x87", Reason.UNSUPPORTED),
        (42, b"\x1f", Reason.UNSUPPORTED),
        (40, struct.pack(">H", 9), Reason.UNSUPPORTED),
    ],
)
def test_kind_and_size_are_refused_by_the_header(offset: int, value: bytes, reason: Reason) -> None:
    content = bytearray(encoded(GRAY, bare=True))
    content[offset : offset + len(value)] = value
    assert rejection(bytes(content)).reason == reason


def test_millions_of_tiles_are_refused() -> None:
    content = bytearray(encoded(GRAY, bare=True))
    content[8:32] = struct.pack(">IIIIII", 9000, 9000, 0, 0, 1, 1)
    assert "81,000,000 tiles" in str(rejection(bytes(content)))


def test_the_codestream_s_size_counts_not_the_box_s() -> None:
    content = bytearray(encoded(GRAY))
    begin = content.index(jpeg2000.CODESTREAM)
    content[begin + 8 : begin + 16] = struct.pack(">II", 40_000, 40_000)  # the box still says 30 x 20
    assert rejection(bytes(content)).reason == Reason.TOO_LARGE


def test_palette_and_chroma_are_refused() -> None:
    content = encoded(RGB)
    assert rejection(content.replace(b"colr\x01\0\0\0\0\0\x10", b"colr\x01\0\0\0\0\0\x12")).reason == Reason.UNSUPPORTED
    assert rejection(encoded(GRAY).replace(b"colr", b"pclr")).reason == Reason.UNSUPPORTED


def test_spec_of_16_bits_gives_16() -> None:
    spec = ImageSpec(height_px=30, width_px=20, bits=16)
    assert decode(encoded(DEEP), spec).pixels_HW.dtype == np.uint16
