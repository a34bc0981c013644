"""Where an image goes in the pack's, and the filter that takes it there, against a filter in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.image_spec import ImageSpec, Resize
from pipeline.packing import kernels
from pipeline.packing.resize import fit, framed, place
from tests.pipeline.test_pixels import triangle_weights

sides = st.integers(1, 90)
resizes: st.SearchStrategy[Resize] = st.sampled_from(["square", "pad", "short-side"])


def noise(height: int, width: int, seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width), dtype, endpoint=True)


def naive_axis(source: int, begin: float, end: float, target: int) -> np.ndarray:
    """Weights [target, source] of a triangle filter over the samples begin..end, in float64."""
    scale = (end - begin) / target
    width = max(scale, 1.0)
    centres = begin + (np.arange(target) + 0.5) * scale
    weights = np.clip(1 - np.abs(np.arange(source) + 0.5 - centres[:, None]) / width, 0, None)
    normalised: np.ndarray = weights / weights.sum(1, keepdims=True)
    return normalised


def naive_fit(gray_HW: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """The pack's image in float64, by what README says about `square`, `pad` and `short-side`."""
    height, width = gray_HW.shape
    out_HW = np.zeros((spec.height_px, spec.width_px))
    if spec.resize == "square":
        rows, columns = (height, 0, height, spec.height_px), (width, 0, width, spec.width_px)
        y, x = 0, 0
    elif spec.resize == "pad":
        scale = min(spec.height_px / height, spec.width_px / width)
        shown_height, shown_width = (max(int(side * scale + 0.5), 1) for side in (height, width))
        rows, columns = (height, 0, height, shown_height), (width, 0, width, shown_width)
        y, x = (spec.height_px - shown_height) // 2, (spec.width_px - shown_width) // 2
    else:
        scale = max(spec.height_px / height, spec.width_px / width)
        cut_y, cut_x = (height - spec.height_px / scale) / 2, (width - spec.width_px / scale) / 2
        rows = (height, max(cut_y, 0), min(height - cut_y, height), spec.height_px)
        columns = (width, max(cut_x, 0), min(width - cut_x, width), spec.width_px)
        y, x = 0, 0
    shown_HW = naive_axis(*rows) @ gray_HW.astype(np.float64) @ naive_axis(*columns).T
    out_HW[y : y + rows[3], x : x + columns[3]] = shown_HW
    return out_HW


@given(
    height=sides, width=sides, out_height=sides, out_width=sides, resize=resizes, dtype=st.sampled_from(["u1", "u2"])
)
def test_every_fit_is_the_documented_one(
    height: int, width: int, out_height: int, out_width: int, resize: Resize, dtype: str
) -> None:
    gray_HW = noise(height, width, dtype=np.uint8 if dtype == "u1" else np.uint16)
    spec = ImageSpec(height_px=out_height, width_px=out_width, resize=resize)
    placement = place(width, height, spec)
    found_HW = framed(fit(gray_HW, placement), placement, spec)
    assert found_HW.dtype == gray_HW.dtype
    assert found_HW.shape == (out_height, out_width)
    # Rounded twice; the edges of a cut are single precision, which moves a sharp 16-bit edge by a few levels.
    assert np.abs(found_HW - naive_fit(gray_HW, spec)).max() <= (1.01 if dtype == "u1" else 4)


@given(
    height=sides, width=sides, out_height=sides, out_width=sides, resize=resizes, reduction=st.sampled_from([1, 2, 4])
)
def test_compiled_loops_and_pillow_give_the_same_bytes(
    height: int, width: int, out_height: int, out_width: int, resize: Resize, reduction: int
) -> None:
    assert kernels.library is not None, "the development environment has a C compiler"
    spec = ImageSpec(height_px=out_height, width_px=out_width, resize=resize)
    placement = place(width, height, spec)
    gray_HW = noise(-(-height // reduction), -(-width // reduction))
    compiled_HW = fit(gray_HW, placement, reduction)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "library", None)
        np.testing.assert_array_equal(compiled_HW, fit(gray_HW, placement, reduction))


@given(height=st.integers(1, 150), width=st.integers(1, 150), is_black_and_white=st.booleans())
def test_half_the_size_is_what_pillow_makes_of_it(height: int, width: int, is_black_and_white: bool) -> None:
    assert kernels.library is not None
    gray_HW = noise(2 * height, 2 * width) // (128 if is_black_and_white else 1) * (255 if is_black_and_white else 1)
    placement = place(2 * width, 2 * height, ImageSpec(height_px=height, width_px=width))
    compiled_HW = fit(gray_HW, placement)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "library", None)
        np.testing.assert_array_equal(compiled_HW, fit(gray_HW, placement))


def test_pad_keeps_the_shape_and_centres_it() -> None:
    placement = place(200, 100, ImageSpec(height_px=64, width_px=64, resize="pad"))
    assert (placement.width, placement.height, placement.x, placement.y) == (64, 32, 0, 16)
    placement = place(1, 5000, ImageSpec(height_px=64, width_px=64, resize="pad"))
    assert (placement.width, placement.height) == (1, 64)


def test_short_side_cuts_both_ends_alike() -> None:
    placement = place(300, 100, ImageSpec(height_px=50, width_px=50, resize="short-side"))
    assert (placement.left, placement.right, placement.top, placement.bottom) == (100, 200, 0, 100)
    placement = place(100, 300, ImageSpec(height_px=50, width_px=50, resize="short-side"))
    assert (placement.left, placement.right, placement.top, placement.bottom) == (0, 100, 100, 200)


@pytest.mark.parametrize("resize", ["square", "pad", "short-side"])
def test_an_image_of_the_pack_s_size_passes_through(resize: Resize) -> None:
    gray_HW = noise(37, 23)
    spec = ImageSpec(height_px=37, width_px=23, resize=resize)
    placement = place(23, 37, spec)
    assert fit(gray_HW, placement) is gray_HW
    assert framed(gray_HW, placement, spec) is gray_HW


def test_naive_axis_is_the_one_of_whole_images() -> None:
    np.testing.assert_allclose(naive_axis(37, 0, 37, 11), triangle_weights(37, 11))
