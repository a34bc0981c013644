"""JPEG sources: reduced decoding, luma, pass-through, and what is refused."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.image_spec import ImageSpec
from pipeline.packing.pixels import decode
from pipeline.packing.rejection import Reason, Rejection
from pipeline.packing.sources import jpeg


def film(height: int, width: int, grain: float = 3.0, seed: int = 0) -> np.ndarray:
    """A smooth picture with film grain, uint8 [height, width]."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(20, 235, (12, 12), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    grainy_HW: np.ndarray = (smooth + rng.normal(0, grain, smooth.shape)).clip(0, 255).round().astype(np.uint8)
    return grainy_HW


def encoded(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **{"quality": 90} | options)
    return buffer.getvalue()


def psnr_db(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def with_segment(content: bytes, marker: int, payload: bytes) -> bytes:
    """Return a JPEG with another segment right after its beginning."""
    return content[:2] + struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload + content[2:]


@pytest.mark.parametrize("grain", [0.7, 3.0, 6.0])
@pytest.mark.parametrize(("size_px", "reduction"), [(512, 1), (257, 1), (256, 2), (103, 2), (102, 4), (64, 4)])
def test_reduced_decoding_is_within_50_db(size_px: int, reduction: int, grain: float) -> None:
    content = encoded(film(1024, 1024, grain))
    spec, exact = (ImageSpec(height_px=size_px, width_px=size_px, exact=exact) for exact in (False, True))
    assert jpeg.decode(content, spec).reduction == reduction
    assert jpeg.decode(content, exact).reduction == 1
    assert psnr_db(decode(content, spec).pixels_HW, decode(content, exact).pixels_HW) >= 50


@given(height=st.integers(64, 400), width=st.integers(64, 400), out=st.integers(1, 128), pad=st.booleans())
def test_reduced_pixels_stay_in_their_place(height: int, width: int, out: int, pad: bool) -> None:
    ramp_HW = np.add.outer(np.linspace(0, 100, height), np.linspace(20, 130, width)).astype(np.uint8)
    content = encoded(ramp_HW, quality=95)
    found, exact = (
        decode(content, ImageSpec(height_px=out, width_px=out, resize="pad" if pad else "square", exact=exact))
        for exact in (False, True)
    )
    assert np.abs(found.pixels_HW.astype(int) - exact.pixels_HW).max() <= 3


def test_gray_of_colour_is_the_stored_luma() -> None:
    rgb = np.stack([film(48, 48, seed=seed) for seed in range(3)], 2)
    content = encoded(rgb, subsampling="4:2:0")
    with Image.open(io.BytesIO(content)) as image:
        luma_HW = np.asarray(image.convert("YCbCr") if image.mode == "YCbCr" else image.draft("L", None) and image)
    np.testing.assert_array_equal(decode(content, ImageSpec.square(48)).pixels_HW, luma_HW)
    colour_HW = np.asarray(Image.fromarray(rgb).convert("L"))
    assert psnr_db(luma_HW, colour_HW) > 30  # and it is the luma of the colours that were stored


@pytest.mark.parametrize("progressive", [False, True])
def test_gray_jpeg_of_the_pack_s_size_passes_through(progressive: bool) -> None:
    content = encoded(film(40, 32), progressive=progressive)
    found = decode(content, ImageSpec(height_px=40, width_px=32, resize="pad"))
    assert found.source_jpeg is content
    np.testing.assert_array_equal(found.pixels_HW, np.asarray(Image.open(io.BytesIO(content))))


def test_what_other_readers_would_see_otherwise_does_not_pass_through() -> None:
    exif = Image.Exif()
    exif[jpeg.ORIENTATION] = 6
    spec = ImageSpec.square(40)
    square = film(40, 40)
    for content in (encoded(square, exif=exif), encoded(np.stack([square] * 3, 2)), encoded(film(40, 41))):
        assert decode(content, spec).source_jpeg is None
    assert decode(encoded(square), ImageSpec(height_px=40, width_px=40, bits=16)).source_jpeg is None


def test_16_bits_are_257_times_8() -> None:
    content = encoded(film(40, 40))
    deep = decode(content, ImageSpec(height_px=40, width_px=40, bits=16)).pixels_HW
    assert deep.dtype == np.uint16
    np.testing.assert_array_equal(deep, decode(content, ImageSpec.square(40)).pixels_HW.astype(np.uint16) * 257)


def test_fine_pattern_that_a_reduction_would_lose_is_not_constant() -> None:
    checkered = np.indices((256, 256)).sum(0) % 2 * 255
    content = encoded(checkered.astype(np.uint8), quality=100)
    assert decode(content, ImageSpec.square(16)).pixels_HW.shape == (16, 16)


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ((4, b"\x0c"), Reason.UNSUPPORTED, "JPEG of 12 bits, type 0"),
        ((1, b"\xc3"), Reason.UNSUPPORTED, "JPEG of 8 bits, type 3"),
        ((9, b"\x04"), Reason.UNSUPPORTED, "4 colour components"),
        ((5, b"\0\0"), Reason.ZERO_SIZE, "40 x 0 px"),
        ((5, b"\xff\xff\xff\xff"), Reason.TOO_LARGE, "65535 x 65535 px"),
    ],
)
def test_kind_is_refused_by_the_frame_header(change: tuple[int, bytes], reason: Reason, message: str) -> None:
    content = bytearray(encoded(film(40, 40)))
    offset, value = change
    begin = content.index(b"\xff\xc0") + offset
    content[begin : begin + len(value)] = value
    with pytest.raises(Rejection, match=message) as caught:
        decode(bytes(content), ImageSpec.square(16))
    assert caught.value.reason == reason


def test_thousands_of_scans_are_refused_undecoded() -> None:
    content = encoded(film(1000, 1000), progressive=True)
    begin = content.rindex(jpeg.SCAN)
    (length,) = struct.unpack_from(">H", content, begin + 2)
    empty_scan = content[begin : begin + 2 + length]
    with pytest.raises(Rejection, match="too large: 1000 x 1000 px in 30"):
        decode(content[:begin] + empty_scan * 3000 + content[begin:], ImageSpec.square(16))


def test_padding_and_comments_before_the_frame_are_skipped() -> None:
    content = encoded(film(40, 40))
    frame = jpeg.read_frame(content)
    commented = with_segment(content, 0xFE, b"\xff\xc0 says nothing here")
    assert jpeg.read_frame(commented[:2] + b"\xff\xff" + commented[2:]) == frame
