"""From packed pixels to what a model sees: one affine resample of the whole batch, normalised on its way.

On a CPU a compiled loop does it (`resample_cpu`), on a GPU one Triton kernel (`resample_triton`); PyTorch's own
operations (`resample_plain`) are the oracle of both.

Shapes: B images of H x W packed pixels, h x w after resampling, always one channel.
"""

from importlib.util import find_spec

import torch

from pipeline.augment import AugmentParams
from pipeline.resample_cpu import has_compiled_loop, resample_cpu
from pipeline.resample_plain import resample

IMAGENET_GRAY_MEAN = 0.449
"""Average of ImageNet's three channel means, for gray in [0, 1]."""

IMAGENET_GRAY_STD = 0.226
"""Average of ImageNet's three channel deviations."""

HAS_TRITON = find_spec("triton") is not None
"""CUDA builds of torch for Linux bring it along; without it PyTorch's own resample does the same in more launches."""


def slower_path(device: torch.device) -> str | None:
    """Return what to tell a user whose images are prepared in a slower way than they could be; None: they are not."""
    if device.type == "cpu" and not has_compiled_loop():
        return (
            "the compiled resample is not installed, so PyTorch prepares images: the same bits, ten times slower or "
            "more; install a C compiler (Debian: apt-get install gcc) and install the project again"
        )
    if device.type == "cuda" and not HAS_TRITON:
        return "triton is not installed, so PyTorch prepares images in several launches; run `pip install triton`"
    return None


def prepare_images(
    images_B1HW: torch.Tensor,
    params: AugmentParams | None,
    out_size_px: int,
    *,
    mean: float = IMAGENET_GRAY_MEAN,
    std: float = IMAGENET_GRAY_STD,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Return images as a model sees them: `dtype` [B, 1, h, w] on the device of `images_B1HW`.

    Pixels are ``(x / 255 - mean) / std`` of the bilinear value at the place that `params` say; outside of the image x
    is 0, black. Nothing to change and the same size: no resampling at all.

    Args:
        images_B1HW: uint8; a packed image that is no square is stretched to one.
        params: one row an image; None: no augmentation.
        out_size_px: side of the result.
        mean: subtracted, for gray in [0, 1].
        std: divided by.
        dtype: of the result; the arithmetic before is float32.
    """
    scale, bias = 1 / (255 * std), -mean / std
    if params is None or params.changes_nothing:
        if images_B1HW.shape[2:] == (out_size_px, out_size_px):
            return images_B1HW.to(torch.float32).mul_(scale).add_(bias).to(dtype)
        params = AugmentParams.identity(len(images_B1HW))
    if images_B1HW.device.type == "cpu":
        return resample_cpu(images_B1HW, params, out_size_px, scale=scale, bias=bias).to(dtype)
    if images_B1HW.is_cuda and HAS_TRITON:
        from pipeline.resample_triton import resample_triton  # triton is not installed everywhere

        return resample_triton(images_B1HW, params, out_size_px, scale=scale, bias=bias, dtype=dtype)
    return resample(images_B1HW, params, out_size_px).mul_(scale).add_(bias).to(dtype)
