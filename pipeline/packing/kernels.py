"""The compiled loops of packing (`kernels.c`): row filters of PNG, resizing; where they are missing, Pillow does it.

They change no pixel, only the time: `library` is None where no C compiler was there when the package was installed.
"""

import ctypes
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from pipeline.compiled import compiled_library

MISSING = (
    "the compiled loops of packing are not installed, so Pillow decodes and resizes: the same pack, two to three times "
    "slower from PNG; install a C compiler (Debian: apt-get install gcc) and install the project again"
)
"""What to tell the user where `library` is None."""

WEIGHT_BITS = 22
SIZE, POINTER = ctypes.c_size_t, ctypes.c_void_p


class Axis(NamedTuple):
    """How one axis is resized: which samples an output is made of, and how much of each."""

    first_N: np.ndarray
    """int32 [N]: first sample of each output."""

    weights_NT: np.ndarray
    """int32 [N, T] in units of 2**-22: weights of the T samples that follow, each row adding up to about 1."""


def load() -> ctypes.CDLL | None:
    """Return the compiled library, or None where it was not built."""
    library = compiled_library("pipeline.packing._kernels")
    if library is None:
        return None
    try:
        library.cxr_unfilter.argtypes = [POINTER, SIZE, SIZE, SIZE, POINTER]
        library.cxr_resize_rows.argtypes = [POINTER, SIZE, SIZE, POINTER, POINTER, SIZE, SIZE, POINTER]
        library.cxr_resize_columns.argtypes = [POINTER, SIZE, POINTER, POINTER, SIZE, SIZE, POINTER]
        library.cxr_resize_columns.restype = None
    except AttributeError:  # of another version
        return None
    return library


library = load()


def unfilter(filtered: bytes | bytearray, height: int, row_bytes: int, step: int) -> np.ndarray | None:
    """Return the rows of a PNG that is not interlaced, uint8 [height, row_bytes]; None where a filter is unknown.

    `filtered` is its inflated data, height rows of 1 + row_bytes; `step` the bytes of a pixel.
    """
    assert library is not None
    assert len(filtered) == height * (1 + row_bytes)
    assert 1 <= step <= row_bytes
    source = np.frombuffer(filtered, np.uint8)
    rows = np.empty((1 + height, row_bytes), np.uint8)
    rows[0] = 0
    unknown = library.cxr_unfilter(source.ctypes.data, height, row_bytes, step, rows.ctypes.data)
    return None if unknown else rows[1:]


def resize_rows(gray_HW: np.ndarray, begin: float, end: float, width: int) -> np.ndarray:
    """Return each row's samples begin..end as `width` samples, as Pillow's BILINEAR does it; uint8 [H, width]."""
    assert library is not None
    assert gray_HW.dtype == np.uint8
    gray_HW = np.ascontiguousarray(gray_HW)
    height, source_width = gray_HW.shape
    first_N, weights_NT = axis_weights(source_width, begin, end, width)
    out = np.empty((height, width), np.uint8)
    no_memory = library.cxr_resize_rows(
        gray_HW.ctypes.data,
        height,
        source_width,
        first_N.ctypes.data,
        weights_NT.ctypes.data,
        weights_NT.shape[1],
        width,
        out.ctypes.data,
    )
    if no_memory:
        raise MemoryError
    return out


def resize_columns(gray_HW: np.ndarray, begin: float, end: float, height: int) -> np.ndarray:
    """Return each column's samples begin..end as `height` samples, as Pillow's BILINEAR does it; uint8 [height, W]."""
    assert library is not None
    assert gray_HW.dtype == np.uint8
    gray_HW = np.ascontiguousarray(gray_HW)
    source_height, width = gray_HW.shape
    first_N, weights_NT = axis_weights(source_height, begin, end, height)
    out = np.empty((height, width), np.uint8)
    library.cxr_resize_columns(
        gray_HW.ctypes.data,
        width,
        first_N.ctypes.data,
        weights_NT.ctypes.data,
        weights_NT.shape[1],
        height,
        out.ctypes.data,
    )
    return out


@lru_cache(maxsize=64)
def axis_weights(source: int, begin: float, end: float, target: int) -> Axis:
    """Return the weights that Pillow's BILINEAR gives `target` outputs of the samples begin..end out of `source`.

    A triangle of half width 1, widened by the scale where it shrinks, in Pillow's order of operations (its edges are
    single precision, everything else double), rounded to whole numbers as Pillow does.
    """
    assert 0 <= begin < end <= source
    begin_32, end_32 = np.float32(begin), np.float32(end)
    scale = float(end_32 - begin_32) / target
    support = max(scale, 1.0)
    centres_N = float(begin_32) + (np.arange(target) + 0.5) * scale
    first_N = np.maximum((centres_N - support + 0.5).astype(np.int64), 0)
    stop_N = np.minimum((centres_N + support + 0.5).astype(np.int64), source)
    taps = min(int(np.ceil(support)) * 2 + 1, source)
    start_N = np.minimum(first_N, source - taps)  # so that no row of weights reaches beyond the last sample
    samples_NT = start_N[:, None] + np.arange(taps)
    distance_NT = np.abs((samples_NT - centres_N[:, None] + 0.5) * (1.0 / support))
    inside_NT = (samples_NT >= first_N[:, None]) & (samples_NT < stop_N[:, None])
    triangle_NT = np.where(inside_NT & (distance_NT < 1), 1.0 - distance_NT, 0.0)
    sums_N = np.cumsum(triangle_NT, axis=1)[:, -1]  # one after the other: np.sum would round otherwise
    weights_NT = np.divide(triangle_NT, sums_N[:, None], where=sums_N[:, None] != 0, out=triangle_NT)
    whole_NT = (weights_NT * (1 << WEIGHT_BITS) + 0.5).astype(np.int32)
    return Axis(first_N=start_N.astype(np.int32), weights_NT=np.ascontiguousarray(whole_NT))
