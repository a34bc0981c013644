"""How an image is fitted into the pack's: where it goes (`place`), and the one antialiased filter that takes it there.

The filter is a triangle, widened by the scale where it shrinks: Pillow's BILINEAR, first along the rows, then along the
columns, each rounded to whole numbers. The order is part of the rule: Pillow's own depends on its version and, in new
ones, on the size. An axis that keeps its size is not touched.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.image_spec import ImageSpec
from pipeline.packing import kernels


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The part of a source that is shown, and the rectangle of the pack's image that shows it."""

    left: float
    top: float
    right: float
    bottom: float
    """Edges of the part, in pixels of the source."""

    width: int
    height: int
    """Size of the rectangle."""

    x: int
    y: int
    """Its first column and row; what is outside of it is 0."""

    @property
    def shrinkage(self) -> float:
        """How many pixels of the source a pixel of the result spans, along the axis where it spans fewer."""
        return min((self.right - self.left) / self.width, (self.bottom - self.top) / self.height)


def place(width: int, height: int, spec: ImageSpec) -> Placement:
    """Return how an image of width x height pixels is fitted into one of `spec`."""
    if spec.resize == "pad":
        scale = min(spec.width_px / width, spec.height_px / height)
        shown_width = min(max(math.floor(width * scale + 0.5), 1), spec.width_px)
        shown_height = min(max(math.floor(height * scale + 0.5), 1), spec.height_px)
        return Placement(
            left=0,
            top=0,
            right=width,
            bottom=height,
            width=shown_width,
            height=shown_height,
            x=(spec.width_px - shown_width) // 2,
            y=(spec.height_px - shown_height) // 2,
        )
    shown_x, shown_y = float(width), float(height)
    if spec.resize == "short-side":
        if spec.width_px * height >= spec.height_px * width:  # the width fits, rows are cut off
            shown_y = spec.height_px * width / spec.width_px
        else:
            shown_x = spec.width_px * height / spec.height_px
    return Placement(
        left=(width - shown_x) / 2,
        top=(height - shown_y) / 2,
        right=(width + shown_x) / 2,
        bottom=(height + shown_y) / 2,
        width=spec.width_px,
        height=spec.height_px,
        x=0,
        y=0,
    )


def fit(gray_HW: np.ndarray, placement: Placement, reduction: int = 1) -> np.ndarray:
    """Return the part of a gray image that `placement` shows, resized; uint8 or uint16 [height, width], as it came.

    `gray_HW` was decoded at 1 / `reduction` of its source's size.
    """
    source_height, source_width = gray_HW.shape
    left, right = placement.left / reduction, placement.right / reduction
    top, bottom = placement.top / reduction, placement.bottom / reduction
    if (placement.width, left, right) != (source_width, 0, source_width):
        gray_HW = resize_rows(gray_HW, left, right, placement.width)
    if (placement.height, top, bottom) != (source_height, 0, source_height):
        gray_HW = resize_columns(gray_HW, top, bottom, placement.height)
    return gray_HW


def resize_rows(gray_HW: np.ndarray, begin: float, end: float, width: int) -> np.ndarray:
    """Return each row's samples begin..end as `width` samples; uint8 or uint16 [H, width]."""
    if kernels.library is not None and gray_HW.dtype == np.uint8:
        return kernels.resize_rows(gray_HW, begin, end, width)
    height = len(gray_HW)
    box = (begin, 0, end, height)
    return np.asarray(Image.fromarray(gray_HW).resize((width, height), Image.Resampling.BILINEAR, box=box))


def resize_columns(gray_HW: np.ndarray, begin: float, end: float, height: int) -> np.ndarray:
    """Return each column's samples begin..end as `height` samples; uint8 or uint16 [height, W]."""
    if kernels.library is not None and gray_HW.dtype == np.uint8:
        return kernels.resize_columns(gray_HW, begin, end, height)
    width = gray_HW.shape[1]
    box = (0, begin, width, end)
    return np.asarray(Image.fromarray(gray_HW).resize((width, height), Image.Resampling.BILINEAR, box=box))


def framed(gray_HW: np.ndarray, placement: Placement, spec: ImageSpec) -> np.ndarray:
    """Return the pack's image: `gray_HW` in the rectangle of `placement`, 0 around it; [height_px, width_px]."""
    if gray_HW.shape == (spec.height_px, spec.width_px):
        return gray_HW
    image_HW = np.zeros((spec.height_px, spec.width_px), gray_HW.dtype)
    image_HW[placement.y : placement.y + placement.height, placement.x : placement.x + placement.width] = gray_HW
    return image_HW
