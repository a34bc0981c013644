"""The meaning of a pixel, against an oracle that shares no code with Pillow."""

import io

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.image_spec import ImageSpec
from pipeline.packing import pixels
from pipeline.packing.sources.raster import stretched
from tests.png_writer import chunk, encode_png

GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6


def decode(content: bytes, size_px: int) -> np.ndarray:
    """Return the pixels of an encoded image, stretched to a square."""
    return pixels.decode(content, ImageSpec.square(size_px)).pixels_HW


def naive_luma(rgb_HWK: np.ndarray) -> np.ndarray:
    """ITU-R 601 luma of the first three channels, in whole numbers, uint8 [H, W]."""
    red, green, blue = (rgb_HWK[..., channel].astype(np.int64) for channel in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(np.uint8)


def triangle_weights(source: int, target: int) -> np.ndarray:
    """Weights [target, source] of a triangle filter as wide as the scale, each row adding up to 1."""
    scale = source / target
    width = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(source) + 0.5 - centres[:, None]) / width
    weights = np.clip(1 - distance, 0, None)
    normalised: np.ndarray = weights / weights.sum(1, keepdims=True)
    return normalised


def naive_resize(gray_HW: np.ndarray, size_px: int) -> np.ndarray:
    """Antialiased triangle resize in float64, without Pillow's rounding between its two passes; float [S, S]."""
    height, width = gray_HW.shape
    resized_SS: np.ndarray = (
        triangle_weights(height, size_px) @ gray_HW.astype(np.float64) @ triangle_weights(width, size_px).T
    )
    return resized_SS


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def distinct(shape: tuple[int, ...], top: int, seed: int = 0) -> np.ndarray:
    """Random whole numbers in 0..top, both ends present."""
    samples = np.random.default_rng(seed).integers(0, top + 1, shape)
    samples.flat[0], samples.flat[-1] = 0, top
    return samples


shapes = st.tuples(st.integers(1, 40), st.integers(2, 40))
gray_images = shapes.flatmap(lambda shape: hnp.arrays(np.uint8, shape)).filter(lambda gray: gray.min() < gray.max())


@given(gray_HW=gray_images, size_px=st.integers(1, 48))
def test_resize_is_an_antialiased_triangle_filter(gray_HW: np.ndarray, size_px: int) -> None:
    found = decode(encoded(Image.fromarray(gray_HW)), size_px)
    assert found.dtype == np.uint8
    assert found.shape == (size_px, size_px)
    assert np.abs(found - naive_resize(gray_HW, size_px)).max() <= 1.01  # Pillow rounds twice


@given(gray_HW=gray_images)
def test_gray_of_the_same_size_passes_through(gray_HW: np.ndarray) -> None:
    square = np.resize(gray_HW, (max(gray_HW.shape), max(gray_HW.shape)))
    if square.min() < square.max():
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(square)), len(square)), square)


@given(data=st.data(), size_px=st.integers(2, 12))
def test_every_kind_of_png_has_the_documented_gray(data: st.DataObject, size_px: int) -> None:
    kind, depth = data.draw(
        st.sampled_from(
            [(GRAY, 1), (GRAY, 2), (GRAY, 4), (GRAY, 8), (GRAY, 16), (RGB, 8), (GRAY_ALPHA, 8), (RGBA, 8), (PALETTE, 8)]
        )
    )
    channels = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGBA: 4}[kind]
    interlaced = data.draw(st.booleans())
    samples = distinct((size_px, size_px, channels), 2**depth - 1, data.draw(st.integers(0, 99)))
    palette = distinct((256, 3), 255, 1)
    extra = chunk(b"PLTE", palette.astype(np.uint8).tobytes()) if kind == PALETTE else b""
    if kind == PALETTE and data.draw(st.booleans()):
        extra += chunk(b"tRNS", bytes(range(256)))  # alpha of every entry: Pillow would warn
    if kind == RGB and data.draw(st.booleans()):
        extra += chunk(b"tRNS", samples[0, 0].astype(">u2").tobytes())  # a transparent colour

    content = encode_png(samples, bit_depth=depth, colour_type=kind, interlaced=interlaced, extra_chunks=extra)
    found = decode(content, size_px)

    if kind == PALETTE:
        expected = naive_luma(palette[samples[..., 0]])
    elif kind in (RGB, RGBA):
        expected = naive_luma(samples)
    else:  # the whole range of every depth is present, so that stretching and scaling are the same
        expected = np.floor(samples[..., 0] * 255 / (2**depth - 1) + 0.5)
    np.testing.assert_array_equal(found, expected)


@given(gray_HW=hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_16_bit_is_stretched_from_lowest_to_highest(gray_HW: np.ndarray) -> None:
    low, high = int(gray_HW.min()), int(gray_HW.max())
    found = stretched(gray_HW, 8)
    exact = (gray_HW.astype(np.float64) - low) * 255 / max(high - low, 1)
    assert found.dtype == np.uint8
    assert np.abs(found - exact).max() <= 0.5
    if high > low:
        assert (found.min(), found.max()) == (0, 255)


def test_alpha_is_ignored() -> None:
    rgb = distinct((9, 9, 3), 255)
    opaque, clear = np.full((9, 9, 1), 255), np.zeros((9, 9, 1), np.int64)
    shown = decode(encode_png(np.concatenate([rgb, opaque], 2), colour_type=RGBA), 5)
    hidden = decode(encode_png(np.concatenate([rgb, clear], 2), colour_type=RGBA), 5)
    np.testing.assert_array_equal(shown, hidden)
    np.testing.assert_array_equal(shown, decode(encode_png(rgb, colour_type=RGB), 5))


def test_replicated_gray_is_that_gray() -> None:
    levels = np.arange(256).reshape(16, 16, 1)
    found = decode(encode_png(np.repeat(levels, 3, axis=2), colour_type=RGB), 16)
    np.testing.assert_array_equal(found, levels[..., 0])


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_equals_pillow_by_hand(mode: str, progressive: bool) -> None:
    gray = Image.fromarray(distinct((40, 30), 255).astype(np.uint8)).resize((60, 80))
    content = encoded(gray.convert(mode), "JPEG", quality=90, progressive=progressive)
    with Image.open(io.BytesIO(content)) as image:
        image.draft("L", None)  # the luma plane of colour
        expected = image.resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(decode(content, 32), np.asarray(expected))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_orientation_is_ignored(kind: str) -> None:
    image = Image.fromarray(distinct((16, 16), 255).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    np.testing.assert_array_equal(decode(encoded(image, kind, exif=exif), 16), decode(encoded(image, kind), 16))


def test_gamma_is_ignored() -> None:
    samples = distinct((8, 8, 1), 255)
    gamma = chunk(b"gAMA", (45455).to_bytes(4, "big"))
    np.testing.assert_array_equal(decode(encode_png(samples, extra_chunks=gamma), 8), samples[..., 0])
