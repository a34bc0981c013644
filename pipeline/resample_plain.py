"""The resample as PyTorch has it, `affine_grid` and `grid_sample`: on any device; the oracle of the faster ones.

Shapes: B images of H x W packed pixels, h x w after resampling, always one channel.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import affine_grid, grid_sample

from pipeline.augment import AugmentParams


def resample(images_B1HW: torch.Tensor, params: AugmentParams, out_size_px: int) -> torch.Tensor:
    """Return float32 [B, 1, h, w], gray 0..255: the bilinear value at the place of every output; 0 is outside."""
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
