"""What every source becomes: gray pixels of full range, 8 or 16 bits."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Raster:
    """A decoded image before it is resized."""

    gray_HW: np.ndarray
    """uint8 or uint16 [H, W]: 0 is black, 255 or 65535 is white."""

    width: int
    height: int
    """Size of the source; `gray_HW` is smaller where a JPEG was decoded at a fraction of it."""

    reduction: int = 1
    """`gray_HW` has 1 / reduction of the source's rows and columns, rounded up."""

    source_jpeg: bytes | None = None
    """The file itself where other readers find the same pixels in it: a gray 8-bit JPEG without an orientation."""

    @classmethod
    def whole(cls, gray_HW: np.ndarray) -> "Raster":
        """Return the raster of an image that was decoded in full."""
        height, width = gray_HW.shape
        return cls(gray_HW=gray_HW, width=width, height=height)


def top_of(bits: int) -> int:
    """Return the value of white at 8 or 16 bits."""
    return (1 << bits) - 1


def stretched(gray_HW: np.ndarray, bits: int) -> np.ndarray:
    """Return uint16 gray whose window is not known: its lowest value 0, its highest white, linear, rounded to nearest.

    In whole numbers over a table of 65,536 entries, so the result is the same on every machine.
    uint8 [H, W] at 8 bits, uint16 [H, W] at 16.
    """
    low, high = int(gray_HW.min()), int(gray_HW.max())
    span, top = max(high - low, 1), top_of(bits)
    table = np.clip(np.arange(65_536) - low, 0, span)
    table = (table * top + span // 2) // span
    return np.take(table.astype(np.uint8 if bits == 8 else np.uint16), gray_HW)


def at_depth(gray_HW: np.ndarray, bits: int) -> np.ndarray:
    """Return 8-bit gray at 8 or 16 bits: times 257, so that white stays white."""
    return gray_HW if bits == 8 or gray_HW.dtype == np.uint16 else gray_HW.astype(np.uint16) * np.uint16(257)
