"""Pixels of a Pillow image as an array, without a copy: numpy's own way copies them twice, in pieces of 64 KiB.

Pillow hands its memory out as an Arrow array, whose layout in C is fixed (Arrow's C data interface): five int64
(length, null count, offset, number of buffers, of children), then a pointer to the pointers of the buffers (validity,
values).
"""

import ctypes
from typing import Any

import numpy as np
from PIL import Image

BUFFERS_OFFSET = 5 * 8
VALUES = 1


class Borrowed:
    """Keeps the memory while an array shows it; `np.asarray` makes that array."""

    def __init__(self, image: Image.Image) -> None:
        """Take the memory of an image of mode L.

        Raises:
            ValueError: its rows lie in several pieces, which they do from 16 MiB on.
        """
        pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
        pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        _, self.capsule = image.__arrow_c_array__()
        array = pointer_of(self.capsule, b"arrow_array")
        assert array is not None
        length, _, offset = (ctypes.c_int64 * 3).from_address(array)
        assert (length, offset) == (image.width * image.height, 0)
        buffers = ctypes.c_void_p.from_address(array + BUFFERS_OFFSET).value
        assert buffers is not None
        values = (ctypes.c_void_p * (VALUES + 1)).from_address(buffers)[VALUES]
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "shape": (image.height, image.width),
            "typestr": "|u1",
            "data": (values, True),
        }


def gray_pixels(image: Image.Image) -> np.ndarray:
    """Return the pixels of an image of mode L, uint8 [H, W], read-only; they stay when the image is gone."""
    assert image.mode == "L"
    try:
        return np.asarray(Borrowed(image))
    except ValueError:
        return np.asarray(image)
