"""The real films through the packing's decoders, pixel by pixel against Pillow, and against their own JPEGs."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.image_spec import ImageSpec
from pipeline.packing import kernels
from pipeline.packing.pixels import decode, read_image
from pipeline.packing.sources import jpeg, png
from pipeline.packing.sources.png import read_chunks, read_header
from tests.pipeline.test_sources_jpeg import psnr_db


def by_pillow(path: Path, height: int, width: int) -> np.ndarray:
    """Decode, convert and resize with Pillow alone, rows first."""
    with Image.open(path) as image:
        gray = image.convert("L")
    gray = gray.resize((width, gray.height), Image.Resampling.BILINEAR)
    return np.asarray(gray.resize((width, height), Image.Resampling.BILINEAR))


@pytest.mark.parametrize(
    ("images", "num_images", "height", "width"),
    [("images_64", 1000, 64, 64), ("images_64", 1000, 48, 80), ("images_1024", 112, 1024, 1024)],
)
def test_every_real_film_has_pillow_s_pixels(
    real_data: Path, images: str, num_images: int, height: int, width: int
) -> None:
    paths = sorted((real_data / "nih" / images).glob("*.png"))
    assert len(paths) == num_images
    spec = ImageSpec(height_px=height, width_px=width, exact=True)
    for path in paths:
        np.testing.assert_array_equal(read_image(path, spec).pixels_HW, by_pillow(path, height, width), path.name)


def test_real_films_are_resized_like_pillow(real_data: Path) -> None:
    paths = sorted((real_data / "nih" / "images_1024").glob("*.png"))[::8]
    for size_px in (224, 256, 512):
        for path in paths:
            found = read_image(path, ImageSpec.square(size_px)).pixels_HW
            np.testing.assert_array_equal(found, by_pillow(path, size_px, size_px), path.name)


def test_real_films_take_the_fast_way(real_data: Path) -> None:
    assert kernels.library is not None
    for path in (real_data / "nih" / "images_1024").glob("*.png"):
        content = path.read_bytes()
        assert png.decode_fast(read_header(content), read_chunks(content)) is not None


@pytest.mark.parametrize(("size_px", "reduction"), [(256, 2), (224, 2), (102, 4), (64, 4)])
def test_jpegs_of_real_films_are_reduced_within_50_db(real_data: Path, size_px: int, reduction: int) -> None:
    lowest_db = np.inf
    for path in sorted((real_data / "nih" / "images_1024").glob("*.png"))[::2]:
        buffer = io.BytesIO()
        with Image.open(path) as image:
            image.convert("L").save(buffer, "JPEG", quality=95)
        content = buffer.getvalue()
        spec, exact = (ImageSpec(height_px=size_px, width_px=size_px, exact=exact) for exact in (False, True))
        assert jpeg.decode(content, spec).reduction == reduction
        reduced, full = (decode(content, each).pixels_HW for each in (spec, exact))
        lowest_db = min(lowest_db, psnr_db(reduced, full))
    assert lowest_db >= 50
