"""From packed pixels to what a model sees: one affine resample of the whole batch, then normalisation.

Shapes: B images of H x W packed pixels, h x w after resampling, always one channel.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import affine_grid, grid_sample

from pipeline.augment import AugmentParams, Floats

IMAGENET_GRAY_MEAN = 0.449
"""Average of ImageNet's three channel means, for gray in [0, 1]."""

IMAGENET_GRAY_STD = 0.226
"""Average of ImageNet's three channel deviations."""

_CHUNK_PIXELS = 1 << 20
"""Pixels that a CPU works on at a time, 16 images of 256 px: what comes between is still in its cache (measured: up to
three times as fast as a batch of 256 at once)."""


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
        images_B1HW: uint8, square.
        params: one row an image; None: no augmentation.
        out_size_px: side of the result.
        mean: subtracted, for gray in [0, 1].
        std: divided by.
        dtype: of the result; the arithmetic before is float32.
    """
    num_images, _, size_px, _ = images_B1HW.shape
    if params is None or params.changes_nothing:
        params = AugmentParams.identity(num_images) if size_px != out_size_px else None
    on_cpu = images_B1HW.device.type == "cpu"
    function = resample_separable if on_cpu and params is not None and params.keeps_axes else resample
    chunk_images = max(1, _CHUNK_PIXELS // max(size_px, out_size_px) ** 2) if on_cpu else max(1, num_images)

    prepared_B1hw = images_B1HW.new_empty((num_images, 1, out_size_px, out_size_px), dtype=dtype)
    for first in range(0, num_images, chunk_images):
        chunk = slice(first, first + chunk_images)
        if params is None:
            pixels_b1hw = images_B1HW[chunk].to(torch.float32)
        else:
            pixels_b1hw = function(images_B1HW[chunk], params[chunk], out_size_px)
        prepared_B1hw[chunk] = pixels_b1hw.div_(255).sub_(mean).div_(std)
    return prepared_B1hw


def resample(images_B1HW: torch.Tensor, params: AugmentParams, out_size_px: int) -> torch.Tensor:
    """Return float32 [B, 1, h, w], gray 0..255: the bilinear resample of any parameters, on any device."""
    theta_B23 = torch.from_numpy(resample_matrix_B23(params)).to(images_B1HW.device, non_blocking=True)
    size = [len(images_B1HW), 1, out_size_px, out_size_px]
    grid_BhwD = affine_grid(theta_B23, size, align_corners=False)
    return grid_sample(
        images_B1HW.to(torch.float32), grid_BhwD, mode="bilinear", padding_mode="zeros", align_corners=False
    )


def resample_matrix_B23(params: AugmentParams) -> npt.NDArray[np.float32]:
    """Return the matrices that `affine_grid` takes: float32 [B, 2, 3], output coordinates -> input coordinates.

    Coordinates run from -1 to 1 between the outer edges of the first and the last pixel. Read from the output
    backwards: the shift is undone, then the rotation, then the flip; what remains lies within the crop.
    """
    angle_B = np.deg2rad(params.angle_degrees_B)
    cos_B, sin_B = np.cos(angle_B), np.sin(angle_B)
    width_B = np.where(params.flip_B, -params.crop_width_B, params.crop_width_B)
    linear_B22 = np.stack(
        [
            np.stack([width_B * cos_B, -width_B * sin_B], axis=-1),
            np.stack([params.crop_height_B * sin_B, params.crop_height_B * cos_B], axis=-1),
        ],
        axis=-2,
    )
    shift_B2 = 2 * np.stack([params.shift_x_B, params.shift_y_B], axis=-1)
    centre_B2 = 2 * np.stack([params.crop_x_B, params.crop_y_B], axis=-1) - 1
    offset_B2 = centre_B2 - np.einsum("bij,bj->bi", linear_B22, shift_B2)
    return np.concatenate([linear_B22, offset_B2[:, :, None]], axis=-1).astype(np.float32)


def resample_separable(images_B1HW: torch.Tensor, params: AugmentParams, out_size_px: int) -> torch.Tensor:
    """Return what `resample` does, for parameters that keep the axes: three to four times faster on a CPU.

    Without rotation the bilinear value is a weighted sum of two rows, then of two columns. Rows are copied whole,
    columns as the rows of the transposed image; places are computed in float64, so that a mere flip is an exact mirror.
    """
    assert params.keeps_axes
    num_images, _, height, width = images_B1HW.shape
    flipped_B = np.where(params.flip_B, -1.0, 1.0)
    ones_B = np.ones(num_images)
    rows = _taps(params.crop_y_B, params.crop_height_B, ones_B, params.shift_y_B, height, out_size_px)
    columns = _taps(params.crop_x_B, params.crop_width_B, flipped_B, params.shift_x_B, width, out_size_px)
    pixels_BhW = _blend_rows(images_B1HW[:, 0], *rows)
    pixels_BWh = pixels_BhW.transpose(1, 2).contiguous()
    pixels_Bwh = _blend_rows(pixels_BWh, *columns)
    return pixels_Bwh.transpose(1, 2).unsqueeze(1)


def _taps(
    centre_B: Floats, extent_B: Floats, direction_B: Floats, shift_B: Floats, num_in: int, num_out: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each output place along an axis its two input places and their weights, both [B, num_out, 2].

    Places are int64 in 0..num_in-1, weights float32; a place outside has the weight 0.
    """
    output_h = (np.arange(num_out) + 0.5) / num_out - 0.5
    offset_Bh = output_h - shift_B[:, None]
    place_Bh = (centre_B[:, None] + (extent_B * direction_B)[:, None] * offset_Bh) * num_in - 0.5
    lower_Bh = np.floor(place_Bh)
    fraction_Bh = place_Bh - lower_Bh
    places_Bh2 = lower_Bh[:, :, None].astype(np.int64) + np.arange(2)
    weights_Bh2 = np.stack([1 - fraction_Bh, fraction_Bh], axis=-1)
    weights_Bh2[(places_Bh2 < 0) | (places_Bh2 >= num_in)] = 0
    places_Bh2 = places_Bh2.clip(0, num_in - 1)
    return torch.from_numpy(places_Bh2), torch.from_numpy(weights_Bh2.astype(np.float32))


def _blend_rows(images_BRK: torch.Tensor, places_Br2: torch.Tensor, weights_Br2: torch.Tensor) -> torch.Tensor:
    """Return the weighted sums of two rows of K pixels each: float32 [B, r, K]."""
    num_images, num_rows, row_length = images_BRK.shape
    rows_NK = images_BRK.reshape(num_images * num_rows, row_length)
    number_Br2 = places_Br2 + torch.arange(num_images)[:, None, None] * num_rows
    lower_nK, upper_nK = (rows_NK.index_select(0, number_Br2[..., tap].reshape(-1)).float() for tap in (0, 1))
    lower_weight_n1, upper_weight_n1 = (weights_Br2[..., tap].reshape(-1, 1) for tap in (0, 1))
    return lower_nK.mul_(lower_weight_n1).addcmul_(upper_nK, upper_weight_n1).view(num_images, -1, row_length)
