"""TIFF sources against the pixels that were written, and what is refused."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from pipeline.image_spec import ImageSpec
from pipeline.packing.pixels import decode
from pipeline.packing.rejection import Reason, Rejection
from tests.pipeline.test_pixels import naive_luma

GRAY = (np.add.outer(np.arange(30) * 3, np.arange(20) * 7) % 256).astype(np.uint8)
DEEP = (GRAY.astype(np.uint16) * 13 + 40).astype(np.uint16)
RGB = np.stack([GRAY, GRAY[::-1], 255 - GRAY], 2)
SPEC = ImageSpec(height_px=30, width_px=20)
SHORT, LONG = 3, 4


def encoded(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "TIFF", **options)
    return buffer.getvalue()


def written(order: str, fields: dict[int, tuple[int, int]], data: bytes, next_page: int = 0) -> bytes:
    """Return a TIFF of one strip, tag -> (type, value), in byte order `<` or `>`; the strip's own tags are added."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    fields = fields | {273: (LONG, 8), 279: (LONG, len(data))}
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, kind, 1) + struct.pack(f"{order}I" if kind == LONG else f"{order}HH", *padded)
        for tag, (kind, value) in sorted(fields.items())
        for padded in [(value,) if kind == LONG else (value, 0)]
    )
    offset = 8 + len(data) + len(data) % 2
    directory = struct.pack(f"{order}H", len(fields)) + entries + struct.pack(f"{order}I", next_page)
    return head + struct.pack(f"{order}I", offset) + data + b"\0" * (len(data) % 2) + directory


def gray_fields(bits: int, *, photometric: int = 1, width: int = 20, height: int = 30) -> dict[int, tuple[int, int]]:
    short = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 277: 1, 278: height}
    return {tag: (SHORT, value) for tag, value in short.items()}


def rejection(content: bytes) -> Rejection:
    with pytest.raises(Rejection) as caught:
        decode(content, SPEC)
    return caught.value


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_gray_and_rgb_keep_their_pixels(compression: str) -> None:
    np.testing.assert_array_equal(decode(encoded(GRAY, compression=compression), SPEC).pixels_HW, GRAY)
    np.testing.assert_array_equal(decode(encoded(RGB, compression=compression), SPEC).pixels_HW, naive_luma(RGB))


@pytest.mark.parametrize(("order", "photometric"), [("<", 0), ("<", 1), (">", 1)])
def test_16_bits_are_stretched_and_white_is_zero_inverted(order: str, photometric: int) -> None:
    content = written(order, gray_fields(16, photometric=photometric), DEEP.astype(f"{order}u2").tobytes())
    low, high = int(DEEP.min()), int(DEEP.max())
    for bits, top in ((8, 255), (16, 65_535)):
        expected = (DEEP.astype(np.float64) - low) * top / (high - low)
        found = decode(content, ImageSpec(height_px=30, width_px=20, bits=bits)).pixels_HW  # type: ignore[arg-type]
        assert np.abs(found - (expected if photometric else top - expected)).max() <= 0.5


def test_8_bits_white_is_zero_are_inverted() -> None:
    np.testing.assert_array_equal(
        decode(written("<", gray_fields(8, photometric=0), GRAY.tobytes()), SPEC).pixels_HW, 255 - GRAY
    )


def test_several_pages_are_refused() -> None:
    content = encoded(GRAY, save_all=True, append_images=[Image.fromarray(GRAY)])
    assert str(rejection(content)) == "animated: a TIFF of several pages"


def test_a_page_that_is_followed_by_itself_is_one_page() -> None:
    looping = written("<", gray_fields(8), GRAY.tobytes(), next_page=8 + GRAY.size)
    np.testing.assert_array_equal(decode(looping, SPEC).pixels_HW, GRAY)


@pytest.mark.parametrize(
    ("fields", "data", "reason"),
    [
        (gray_fields(16, photometric=0), b"", Reason.CORRUPT),
        (gray_fields(32), bytes(2400), Reason.UNSUPPORTED),
        (gray_fields(16) | {339: (SHORT, 2)}, DEEP.tobytes(), Reason.UNSUPPORTED),
        (gray_fields(8) | {259: (SHORT, 50_000)}, GRAY.tobytes(), Reason.UNSUPPORTED),
        (gray_fields(8, width=40_000, height=40_000), bytes(9), Reason.TOO_LARGE),
        (gray_fields(8, width=0), bytes(9), Reason.CORRUPT),
        (gray_fields(8) | {322: (LONG, 1 << 30), 323: (LONG, 1 << 30)}, GRAY.tobytes(), Reason.TOO_LARGE),
    ],
)
def test_what_cannot_be_gray_is_refused(fields: dict[int, tuple[int, int]], data: bytes, reason: Reason) -> None:
    assert rejection(written("<", fields, data)).reason == reason


def test_16_bit_colour_is_refused() -> None:
    fields = gray_fields(16, photometric=2) | {277: (SHORT, 3)}
    caught = rejection(written("<", fields, np.repeat(DEEP[..., None], 3, 2).tobytes()))
    assert caught.reason in (Reason.UNSUPPORTED, Reason.CORRUPT)


def test_a_kind_that_pillow_has_no_name_for_is_refused() -> None:
    content = written(">", gray_fields(16, photometric=0), DEEP.astype(">u2").tobytes())
    assert rejection(content).reason == Reason.UNSUPPORTED


def test_float_is_refused() -> None:
    assert rejection(encoded(GRAY.astype(np.float32))).reason == Reason.UNSUPPORTED
