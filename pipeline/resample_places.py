"""Where every output pixel of the resample lies in its image: what the fast ways of computing it are given.

    x = centre + column * (2j + 1 - size) + row * (2i + 1 - size)      for the output in row i and column j; y likewise

Coordinates are those of pixel centres: 0 is the middle of the first pixel. Seen from the output's centre, in its half
pixels, so that the mirror of an image is its mirror to the last bit.

Shapes: B images; 2 coordinates, x then y; 3 coefficients: column, row, centre.
"""

import numpy as np
import numpy.typing as npt

from pipeline.augment import AugmentParams

FRACTION_BITS = 32
"""A fixed place is a whole number of 2**-32 px: over the largest image 2**-20 px are lost at most."""


def places_B23(params: AugmentParams, *, height_px: int, width_px: int, out_size_px: int) -> npt.NDArray[np.float64]:
    """Return the coefficients: float64 [B, 2, 3], in pixels of the input.

    Read from the output backwards: the shift is undone, then the rotation, then the flip; what remains lies within the
    crop. The same as `pipeline.resample_plain.resample_matrix_B23` in other units.
    """
    angle_B = np.deg2rad(params.angle_degrees_B)
    cos_B, sin_B = np.cos(angle_B), np.sin(angle_B)
    places = np.empty((len(params), 2, 3))
    x_B3, y_B3 = places[:, 0], places[:, 1]
    width_B = np.where(params.flip_B, -params.crop_width_B, params.crop_width_B) * width_px
    height_B = params.crop_height_B * height_px
    x_B3[:, 0], x_B3[:, 1] = width_B * cos_B, -width_B * sin_B
    y_B3[:, 0], y_B3[:, 1] = height_B * sin_B, height_B * cos_B
    shifted_B2 = places[:, :, 0] * params.shift_x_B[:, None] + places[:, :, 1] * params.shift_y_B[:, None]
    places[:, :, 2] = -shifted_B2 - 0.5
    x_B3[:, 2] += params.crop_x_B * width_px
    y_B3[:, 2] += params.crop_y_B * height_px
    places[:, :, :2] *= 0.5 / out_size_px
    return places


def fixed_places_B23(
    params: AugmentParams, *, height_px: int, width_px: int, out_size_px: int
) -> npt.NDArray[np.int64]:
    """Return the coefficients in 2**-32 px: int64 [B, 2, 3]. With them places are sums of whole numbers: exact."""
    places = places_B23(params, height_px=height_px, width_px=width_px, out_size_px=out_size_px)
    return np.rint(np.ldexp(places, FRACTION_BITS)).astype(np.int64)
