"""Small pictures of a pack's images, as text that a page can hold."""

import base64
import io

import numpy as np
from PIL import Image

from pipeline.loaders.reference import DamagedSampleError, SampleReader
from pipeline.pack import Pack

LONGEST_PX = 192
"""Longer sides are made smaller."""

QUALITY = 85
"""Of the JPEG."""


class Thumbnails:
    """Draws thumbnails; each image once."""

    def __init__(self, pack: Pack) -> None:
        self._reader = SampleReader(pack)
        self._drawn: dict[int, str | None] = {}

    def uri(self, sample_index: int) -> str | None:
        """Return a ``data:`` URI of an image; None where it does not decode.

        Raises:
            PackError: the pack cannot be read.
        """
        if sample_index not in self._drawn:
            try:
                self._drawn[sample_index] = as_uri(self._reader.read(sample_index))
            except DamagedSampleError:
                self._drawn[sample_index] = None
        return self._drawn[sample_index]


def as_uri(pixels_HW: np.ndarray) -> str:
    """Return uint8 [H, W] as a ``data:`` URI, no side longer than `LONGEST_PX`."""
    image = Image.fromarray(pixels_HW)
    image.thumbnail((LONGEST_PX, LONGEST_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
