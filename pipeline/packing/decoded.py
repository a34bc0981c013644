"""A decoded image on its way into a shard."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """Pixels of the pack's size, and where they allow it the bytes that they came from."""

    pixels_HW: np.ndarray
    """uint8 or uint16 [height_px, width_px]."""

    source_jpeg: bytes | None = None
    """The source's own bytes where it is a gray 8-bit JPEG of exactly the wanted size: `tar` passes them through."""
