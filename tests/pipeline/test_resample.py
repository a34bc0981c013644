"""Every way to compute the resample against the plain one; compiled and tensor paths bit by bit."""

import concurrent.futures

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import resample_cpu
from pipeline.augment import AugmentConfig, AugmentParams, augment_params
from pipeline.prepare import prepare_images
from pipeline.resample_places import fixed_places_B23, places_B23
from pipeline.resample_plain import resample, resample_matrix_B23

BOUND_GRAY = 0.02
"""Largest difference to the plain resample in gray levels, of images of noise: single precision of its coordinates."""

CONFIGS = [
    AugmentConfig.none(),
    AugmentConfig.nih(),
    AugmentConfig.chexpert(),
    AugmentConfig(translation=1),
    AugmentConfig(rotation_degrees=180, translation=1),
]


def noise(num_images: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (num_images, 1, height, width), dtype=np.uint8)
    return torch.from_numpy(pixels)


def by_tensors(
    images_B1HW: torch.Tensor, params: AugmentParams, out_size_px: int, scale: float = 1.0, bias: float = 0.0
) -> torch.Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resample_cpu, "library", None)
        return resample_cpu.resample_cpu(images_B1HW, params, out_size_px, scale=scale, bias=bias)


def test_the_compiled_loop_is_installed() -> None:
    assert resample_cpu.library is not None, "no C compiler when the project was installed?"


@settings(max_examples=150)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
    st.sampled_from(CONFIGS),
)
def test_compiled_loop_and_tensors_give_the_same_bits_near_the_plain_resample(
    height: int, width: int, out_size_px: int, num_images: int, seed: int, config: AugmentConfig
) -> None:
    images_B1HW = noise(num_images, height, width, seed)
    params = augment_params(seed, 0, np.arange(num_images), config)
    compiled = resample_cpu.resample_cpu(images_B1HW, params, out_size_px, scale=0.017, bias=-1.98)
    assert torch.equal(compiled, by_tensors(images_B1HW, params, out_size_px, 0.017, -1.98))
    gray = resample_cpu.resample_cpu(images_B1HW, params, out_size_px)
    torch.testing.assert_close(gray, resample(images_B1HW, params, out_size_px), rtol=0, atol=BOUND_GRAY)


@pytest.mark.parametrize("config", CONFIGS[1:])
@pytest.mark.parametrize(("height", "width", "out_size_px"), [(256, 256, 224), (300, 257, 600), (31, 700, 300)])
def test_sizes_of_training_keep_to_the_bound(height: int, width: int, out_size_px: int, config: AugmentConfig) -> None:
    """Rows longer than what the compiled loop works on together among them."""
    images_B1HW, params = noise(3, height, width), augment_params(5, 1, np.arange(3), config)
    compiled = resample_cpu.resample_cpu(images_B1HW, params, out_size_px)
    assert torch.equal(compiled, by_tensors(images_B1HW, params, out_size_px))
    plain = resample(images_B1HW, params, out_size_px)
    torch.testing.assert_close(compiled, plain, rtol=0, atol=2 * BOUND_GRAY)  # places of three digits


def test_no_image_depends_on_its_company_or_on_the_threads() -> None:
    images_B1HW = noise(7, 30, 20)
    upright, turned = (
        augment_params(2, 0, np.arange(7), config) for config in (AugmentConfig.nih(), AugmentConfig.chexpert())
    )
    before = torch.get_num_threads()
    try:
        for params in (upright, turned):
            results = []
            for num_threads in (1, 2, 3, 16):
                torch.set_num_threads(num_threads)
                results.append(resample_cpu.resample_cpu(images_B1HW, params, 24))
            alone = [
                resample_cpu.resample_cpu(images_B1HW[n : n + 1], params[n : n + 1], 24) for n in range(len(params))
            ]
            for other in (*results[1:], torch.cat(alone)):
                assert torch.equal(results[0], other)
    finally:
        torch.set_num_threads(before)


def test_an_image_that_is_not_turned_is_the_same_in_company_that_is() -> None:
    """The tensor path treats a batch as turned as soon as one image is."""
    images_B1HW = noise(2, 19, 19)
    params = augment_params(0, 0, np.arange(2), AugmentConfig.nih())
    alone = by_tensors(images_B1HW, params, 16)
    params.angle_degrees_B[1] = 7
    assert torch.equal(by_tensors(images_B1HW, params, 16)[0], alone[0])
    assert torch.equal(resample_cpu.resample_cpu(images_B1HW, params, 16)[0], alone[0])


def test_images_that_are_views_are_read_as_what_they_are() -> None:
    whole = noise(4, 24, 24)
    params = augment_params(0, 0, np.arange(2), AugmentConfig.chexpert())
    views = [whole[1:3], whole[::2], whole[:2].transpose(2, 3), whole[:2, :, 4:, 3:]]
    for view in views:
        expected = resample_cpu.resample_cpu(view.clone(memory_format=torch.contiguous_format), params, 20)
        assert torch.equal(resample_cpu.resample_cpu(view, params, 20), expected)


def test_calls_from_several_threads_do_not_meet() -> None:
    images_B1HW = noise(16, 32, 32)
    params = [augment_params(seed, 0, np.arange(16), AugmentConfig.chexpert()) for seed in range(8)]
    expected = [resample_cpu.resample_cpu(images_B1HW, each, 28) for each in params]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda each: resample_cpu.resample_cpu(images_B1HW, each, 28), params))
    assert all(map(torch.equal, found, expected))


def test_want_of_memory_in_the_compiled_loop_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        @staticmethod
        def cxr_resample(*_: object) -> int:
            return 1

    monkeypatch.setattr(resample_cpu, "library", Library)
    with pytest.raises(MemoryError, match="resample"):
        resample_cpu.resample_cpu(noise(4, 8, 8), AugmentParams.identity(4), 6)


def test_places_say_what_the_matrix_says_in_pixels() -> None:
    height, width, size = 30, 50, 20
    params = augment_params(3, 0, np.arange(6), AugmentConfig.chexpert())
    theta = resample_matrix_B23(params).astype(np.float64)
    places = places_B23(params, height_px=height, width_px=width, out_size_px=size)
    for i, j in [(0, 0), (0, 19), (19, 0), (7, 11)]:
        outer = np.array([(2 * j + 1) / size - 1, (2 * i + 1) / size - 1, 1.0])
        inner = np.array([2 * j + 1 - size, 2 * i + 1 - size, 1.0])
        expected = (theta @ outer + 1) / 2 * [width, height] - 0.5
        np.testing.assert_allclose(places @ inner, expected, atol=1e-4)
    fixed = fixed_places_B23(params, height_px=height, width_px=width, out_size_px=size)
    np.testing.assert_allclose(fixed / 2.0**32, places, rtol=0, atol=2.0**-33)


@pytest.mark.parametrize("config", CONFIGS)
def test_packed_images_that_are_no_squares_become_squares(config: AugmentConfig) -> None:
    images_B1HW, params = noise(3, 21, 34), augment_params(1, 0, np.arange(3), config)
    prepared = prepare_images(images_B1HW, params, 16, mean=0, std=1)
    expected = resample(images_B1HW, params, 16) / 255
    assert prepared.shape == (3, 1, 16, 16)
    torch.testing.assert_close(prepared, expected, rtol=0, atol=BOUND_GRAY / 255)


def test_a_tall_image_is_not_taken_for_a_square_of_its_height() -> None:
    images_B1HW = noise(2, 16, 9)
    plain: npt.NDArray[np.float32] = resample(images_B1HW, AugmentParams.identity(2), 16).numpy()
    found = prepare_images(images_B1HW, None, 16, mean=0, std=1 / 255).numpy()
    np.testing.assert_allclose(found, plain, atol=BOUND_GRAY)
