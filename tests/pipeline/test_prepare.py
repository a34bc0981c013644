"""Laws of resampling and normalisation; the oracle computes one pixel at a time."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import resample_cpu
from pipeline.augment import AugmentConfig, AugmentParams, augment_params
from pipeline.prepare import prepare_images, slower_path
from pipeline.resample_plain import resample

MEAN, STD = 0.449, 0.226
Gray = npt.NDArray[np.float64]


def noise(num_images: int, size_px: int, seed: int = 0) -> torch.Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (num_images, 1, size_px, size_px), dtype=np.uint8)
    return torch.from_numpy(pixels)


def one(**changes: float) -> AugmentParams:
    """Parameters of one image, all else untouched."""
    params = AugmentParams.identity(1)
    for name, value in changes.items():
        getattr(params, name)[0] = value
    return params


def gray(prepared: torch.Tensor) -> Gray:
    """Undo the normalisation: float64 [h, w] in 0..255 of a batch of one image."""
    return (prepared[0, 0].double().numpy() * STD + MEAN) * 255


def pixel(image_HW: npt.NDArray[np.uint8], row: int, column: int) -> float:
    height, width = image_HW.shape
    return float(image_HW[row, column]) if 0 <= row < height and 0 <= column < width else 0.0


def oracle(image_HW: npt.NDArray[np.uint8], params: AugmentParams, number: int, out_size_px: int) -> Gray:
    """Return the resampled image, float64 [h, w]: every output pixel is followed back to its place, step by step."""
    size_px = image_HW.shape[0]
    result = np.zeros((out_size_px, out_size_px))
    for i in range(out_size_px):
        for j in range(out_size_px):
            # Where the pixel lies on the output, seen from its centre, in sides: x to the right, y downwards.
            x, y = (j + 0.5) / out_size_px - 0.5, (i + 0.5) / out_size_px - 0.5
            x, y = x - params.shift_x_B[number], y - params.shift_y_B[number]
            # Counter-clockwise content: look for it clockwise, with y downwards.
            angle = math.radians(params.angle_degrees_B[number])
            x, y = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
            if params.flip_B[number]:
                x = -x
            x = params.crop_x_B[number] + x * params.crop_width_B[number]
            y = params.crop_y_B[number] + y * params.crop_height_B[number]
            # From fractions of the image to pixels, whose centres lie at half numbers.
            column, row = x * size_px - 0.5, y * size_px - 0.5
            left, top = math.floor(column), math.floor(row)
            right_share, bottom_share = column - left, row - top
            result[i, j] = (
                pixel(image_HW, top, left) * (1 - right_share) * (1 - bottom_share)
                + pixel(image_HW, top, left + 1) * right_share * (1 - bottom_share)
                + pixel(image_HW, top + 1, left) * (1 - right_share) * bottom_share
                + pixel(image_HW, top + 1, left + 1) * right_share * bottom_share
            )
    return result


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 24),
    st.integers(1, 24),
    st.integers(0, 2**32 - 1),
    st.sampled_from(
        [AugmentConfig.nih(), AugmentConfig.chexpert(), AugmentConfig(rotation_degrees=180, translation=1)]
    ),
)
def test_every_pixel_equals_the_oracle(size_px: int, out_size_px: int, seed: int, config: AugmentConfig) -> None:
    images_B1HW = noise(3, size_px, seed)
    params = augment_params(seed, 0, np.arange(3), config)
    plain = resample(images_B1HW, params, out_size_px)
    prepared = prepare_images(images_B1HW, params, out_size_px, mean=0, std=1 / 255)
    for number in range(3):
        expected = oracle(images_B1HW[number, 0].numpy(), params, number, out_size_px)
        np.testing.assert_allclose(plain[number, 0].numpy(), expected, atol=0.02)
        np.testing.assert_allclose(prepared[number, 0].numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("config", [AugmentConfig.none(), AugmentConfig.nih(), AugmentConfig.chexpert()])
def test_working_in_chunks_changes_nothing(config: AugmentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    images_B1HW, params = noise(5, 16), augment_params(0, 0, np.arange(5), config)
    monkeypatch.setattr(resample_cpu, "library", None)
    whole = [prepare_images(images_B1HW, params, size_px) for size_px in (12, 16)]
    monkeypatch.setattr(resample_cpu, "_CHUNK_PIXELS", 2 * 16 * 16)
    for expected in whole:
        assert torch.equal(prepare_images(images_B1HW, params, expected.shape[-1]), expected)


@pytest.mark.parametrize("params", [None, AugmentParams.identity(4)])
def test_unchanged_images_are_only_normalised(params: AugmentParams | None) -> None:
    images_B1HW = noise(4, 15)
    expected = (images_B1HW.numpy().astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    np.testing.assert_allclose(prepare_images(images_B1HW, params, 15).numpy(), expected, rtol=0, atol=1e-6)


def test_a_flip_is_an_exact_mirror() -> None:
    images_B1HW = noise(3, 17)
    params = AugmentParams.identity(3)
    params.flip_B[:] = [True, False, True]
    prepared = prepare_images(images_B1HW, params, 17)
    plain = prepare_images(images_B1HW, None, 17)
    assert torch.equal(prepared[0], plain[0].flip(-1))
    assert torch.equal(prepared[1], plain[1])
    assert torch.equal(prepared[2], plain[2].flip(-1))


def test_a_crop_of_a_gradient_is_the_part_of_the_gradient() -> None:
    ramp = torch.arange(0, 200, 10, dtype=torch.uint8)  # 20 px: gray = 200 * x - 5, rising to the right
    images_B1HW = ramp.expand(1, 1, 20, 20).contiguous()
    params = one(crop_x_B=0.35, crop_y_B=0.6, crop_width_B=0.5, crop_height_B=0.4)
    x = 0.35 + 0.5 * ((np.arange(10) + 0.5) / 10 - 0.5)
    np.testing.assert_allclose(gray(prepare_images(images_B1HW, params, 10)), np.tile(200 * x - 5, (10, 1)), atol=1e-3)
    turned = images_B1HW.transpose(2, 3).contiguous()
    y = 0.6 + 0.4 * ((np.arange(10) + 0.5) / 10 - 0.5)
    expected = np.tile((200 * y - 5)[:, None], (1, 10))
    np.testing.assert_allclose(gray(prepare_images(turned, params, 10)), expected, atol=1e-3)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_rotation_is_counter_clockwise_about_the_centre(quarters: int) -> None:
    images_B1HW = noise(1, 9)
    expected = np.rot90(images_B1HW[0, 0].numpy(), quarters)  # numpy turns counter-clockwise, as one sees a matrix
    found = gray(prepare_images(images_B1HW, one(angle_degrees_B=90 * quarters), 9))
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_rotation_turns_what_the_crop_shows_as_a_square() -> None:
    """A crop that is not square is first made square, then turned: at 90 degrees its width becomes its height."""
    images_B1HW = noise(1, 16)
    crop = {"crop_x_B": 0.5, "crop_y_B": 0.5, "crop_width_B": 0.5, "crop_height_B": 1.0}
    upright = gray(prepare_images(images_B1HW, one(**crop), 8))
    turned = gray(prepare_images(images_B1HW, one(**crop, angle_degrees_B=90), 8))
    np.testing.assert_allclose(turned, np.rot90(upright), atol=0.05)


def test_translation_moves_the_content_right_and_down_and_leaves_black() -> None:
    images_B1HW = noise(1, 10)
    found = gray(prepare_images(images_B1HW, one(shift_x_B=0.2, shift_y_B=0.3), 10))
    expected = np.zeros((10, 10))
    expected[3:, 2:] = images_B1HW[0, 0, :-3, :-2].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_translation_of_a_flipped_image_still_goes_right() -> None:
    images_B1HW = noise(1, 10)
    found = gray(prepare_images(images_B1HW, one(shift_x_B=0.2, flip_B=True), 10))
    expected = np.zeros((10, 10))
    expected[:, 2:] = images_B1HW[0, 0].flip(-1)[:, :-2].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_result_has_the_asked_type_shape_and_scale(dtype: torch.dtype) -> None:
    images_B1HW = noise(2, 8)
    prepared = prepare_images(images_B1HW, None, 12, mean=0.5, std=0.25, dtype=dtype)
    assert prepared.shape == (2, 1, 12, 12)
    assert prepared.dtype == dtype
    assert prepared.is_contiguous()
    default = prepare_images(images_B1HW, None, 12)
    torch.testing.assert_close(prepared.float(), (default * STD + MEAN - 0.5) / 0.25, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("config", [AugmentConfig.none(), AugmentConfig.nih(), AugmentConfig.chexpert()])
def test_a_batch_of_nothing_stays_one(config: AugmentConfig) -> None:
    params = augment_params(0, 0, np.empty(0, np.int64), config)
    assert prepare_images(noise(0, 8), params, 6).shape == (0, 1, 6, 6)


def test_images_given_stay_as_they_were() -> None:
    images_B1HW = noise(2, 8)
    before = images_B1HW.clone()
    for params in (None, augment_params(0, 0, np.arange(2), AugmentConfig.chexpert())):
        prepare_images(images_B1HW, params, 8)
        assert torch.equal(images_B1HW, before)


def test_a_slower_way_is_named_where_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert slower_path(cpu) is None
    monkeypatch.setattr(resample_cpu, "library", None)
    monkeypatch.setattr("pipeline.prepare.HAS_TRITON", False)
    assert "install a C compiler" in str(slower_path(cpu))
    assert "pip install triton" in str(slower_path(cuda))
