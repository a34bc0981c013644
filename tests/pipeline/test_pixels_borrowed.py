"""Pixels borrowed from Pillow are Pillow's pixels, and stay when the image is gone."""

import gc
import weakref

import numpy as np
import pytest
from PIL import Image

from pipeline.packing.sources.borrowed import Borrowed, gray_pixels


def film(width: int, height: int) -> Image.Image:
    """Return an image in memory of Pillow's own."""
    pixels_HW = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    return Image.fromarray(pixels_HW).copy()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (5, 3), (1023, 7), (64, 64), (4096, 4097)])
def test_borrowed_pixels_equal_copied_ones(width: int, height: int) -> None:
    image = film(width, height)
    assert np.array_equal(gray_pixels(image), np.asarray(image))


def test_pixels_are_shown_where_they_lie() -> None:
    image = film(64, 64)
    assert gray_pixels(image).ctypes.data == gray_pixels(image).ctypes.data
    assert not gray_pixels(image).flags.writeable


def test_memory_is_kept_for_the_array_and_no_longer() -> None:
    image = film(300, 200)
    expected_HW = np.array(image)
    pixels_HW = gray_pixels(image)
    del image
    others = [film(300, 200).rotate(180) for _ in range(8)]  # would take the memory if it were free
    assert np.array_equal(pixels_HW, expected_HW)
    owner = pixels_HW.base
    assert isinstance(owner, Borrowed)
    gone = weakref.ref(owner)
    del owner, pixels_HW, others
    gc.collect()
    assert gone() is None
