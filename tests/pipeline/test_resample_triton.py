"""The resample kernel against the plain resample, in Triton's interpreter; on a GPU, where there is one, compiled."""

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton", reason="triton is not installed")

from pipeline.augment import AugmentConfig, AugmentParams, augment_params
from pipeline.prepare import prepare_images
from pipeline.resample_cpu import resample_cpu
from pipeline.resample_plain import resample
from pipeline.resample_triton import BLOCK, resample_triton

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreter = pytest.mark.skipif(not INTERPRETED, reason="kernels are compiled for the GPU here")
gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]

BOUND_GRAY = 0.02
"""Largest difference in gray levels, of images of noise: both have coordinates in single precision."""

CONFIGS = [AugmentConfig.nih(), AugmentConfig.chexpert(), AugmentConfig(rotation_degrees=180, translation=1)]


def noise(num_images: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (num_images, 1, height, width), dtype=np.uint8)
    return torch.from_numpy(pixels)


@interpreter
@settings(max_examples=25)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 50),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
    st.sampled_from(CONFIGS),
)
def test_kernel_equals_the_plain_resample(
    height: int, width: int, out_size_px: int, num_images: int, seed: int, config: AugmentConfig
) -> None:
    images_B1HW = noise(num_images, height, width, seed)
    params = augment_params(seed, 0, np.arange(num_images), config)
    found = resample_triton(images_B1HW, params, out_size_px)
    torch.testing.assert_close(found, resample(images_B1HW, params, out_size_px), rtol=0, atol=BOUND_GRAY)


@interpreter
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_kernel_normalises_and_casts(dtype: torch.dtype) -> None:
    images_B1HW, params = noise(2, 70, 50), augment_params(0, 0, np.arange(2), CONFIGS[1])
    found = resample_triton(images_B1HW, params, 40, scale=0.01, bias=-1, dtype=dtype)
    assert BLOCK < 40 * 40  # more than one program an image
    assert found.dtype == dtype
    expected = resample_cpu(images_B1HW, params, 40, scale=0.01, bias=-1).to(dtype)
    torch.testing.assert_close(found, expected, rtol=torch.finfo(dtype).eps, atol=BOUND_GRAY * 0.01)


@interpreter
def test_kernel_leaves_pixels_as_they_are_where_nothing_is_to_be_done() -> None:
    images_B1HW = noise(2, 33, 33)
    assert torch.equal(resample_triton(images_B1HW, AugmentParams.identity(2), 33), images_B1HW.float())
    flipped = AugmentParams.identity(2)
    flipped.flip_B[:] = True
    assert torch.equal(resample_triton(images_B1HW, flipped, 33), images_B1HW.float().flip(-1))


@interpreter
def test_kernel_reads_views_and_takes_a_batch_of_nothing() -> None:
    images_B1HW = noise(4, 20, 20)[::2].transpose(2, 3)
    params = augment_params(0, 0, np.arange(2), CONFIGS[0])
    expected = resample_triton(images_B1HW.contiguous(), params, 16)
    assert torch.equal(resample_triton(images_B1HW, params, 16), expected)
    assert resample_triton(images_B1HW[:0], params[:0], 16).shape == (0, 1, 16, 16)


class TestOnGPU:
    pytestmark = gpu

    @pytest.mark.parametrize("config", CONFIGS)
    @pytest.mark.parametrize(("height", "width", "out_size_px"), [(256, 256, 224), (320, 240, 224), (64, 64, 64)])
    def test_prepared_images_equal_those_of_the_cpu(
        self, height: int, width: int, out_size_px: int, config: AugmentConfig
    ) -> None:
        images_B1HW, params = noise(64, height, width), augment_params(0, 0, np.arange(64), config)
        for dtype in (torch.float32, torch.bfloat16):
            found = prepare_images(images_B1HW.cuda(), params, out_size_px, dtype=dtype)
            expected = prepare_images(images_B1HW, params, out_size_px, dtype=dtype)
            eps = torch.finfo(dtype).eps
            torch.testing.assert_close(found.cpu(), expected, rtol=eps, atol=2 * BOUND_GRAY / 255 / 0.226)

    def test_one_launch_and_one_copy_do_it_and_the_host_never_waits(self) -> None:
        images_B1HW, params = noise(16, 256, 256).cuda(), augment_params(0, 0, np.arange(16), CONFIGS[1])
        prepare_images(images_B1HW, params, 224)  # compiles
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
                prepare_images(images_B1HW, params, 224, dtype=torch.bfloat16)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        torch.cuda.synchronize()
        launched = [event.name for event in profile.events() if event.device_type.name == "CUDA"]
        assert len([name for name in launched if "resample_kernel" in name]) == 1
        assert len([name for name in launched if "Memcpy" not in name]) == 1
        assert len(launched) <= 2

    def test_more_pixels_than_32_bits_count(self) -> None:
        images_B1HW = torch.zeros((2100, 1, 1024, 1024), dtype=torch.uint8, device="cuda")
        images_B1HW[-1] = noise(1, 1024, 1024)[0].cuda()
        params = AugmentParams.identity(2100)
        found = prepare_images(images_B1HW, params, 32, mean=0, std=1)[-1:]
        assert torch.equal(found, prepare_images(images_B1HW[-1:], params[-1:], 32, mean=0, std=1))
