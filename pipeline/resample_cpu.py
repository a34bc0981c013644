"""The resample on a CPU: a compiled loop (`resample.c`), an image after the other, the images shared among threads.

Where the compiled loop is missing, tensor operations give the same bits, slower: places are whole numbers of 2**-32 px,
gray values are mixed in float32 by ``low + share * (high - low)``, first two rows, then two columns.

Shapes: B images of H x W packed pixels, h x w after resampling; b of them at a time; one channel, left out.
"""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from pipeline.augment import AugmentParams
from pipeline.compiled import compiled_library
from pipeline.resample_places import FRACTION_BITS, fixed_places_B23

_CHUNK_PIXELS = 1 << 20
"""Pixels that tensor operations work on at a time, 16 images of 256 px: what comes between stays in the cache."""

_SIZE, _FLOAT, _POINTER = ctypes.c_size_t, ctypes.c_float, ctypes.c_void_p

Places = npt.NDArray[np.int64]


def load() -> ctypes.CDLL | None:
    """Return the compiled library, or None where it was not built."""
    library = compiled_library("pipeline._resample")
    if library is None:
        return None
    try:
        library.cxr_resample.argtypes = [
            _POINTER, _SIZE, _SIZE, _SIZE, _POINTER, _SIZE, _FLOAT, _FLOAT, _POINTER,
        ]  # fmt: skip
    except AttributeError:  # of another version
        return None
    return library


library = load()


def has_compiled_loop() -> bool:
    """Return whether the compiled loop was built when the package was installed."""
    return library is not None


def resample_cpu(
    images_B1HW: torch.Tensor, params: AugmentParams, out_size_px: int, *, scale: float = 1.0, bias: float = 0.0
) -> torch.Tensor:
    """Return ``gray * scale + bias`` of the bilinear value at the place of every output: float32 [B, 1, h, w].

    The same bits with and without the compiled loop, for any number of threads (`torch.get_num_threads`), and whatever
    other images are in the batch.

    Args:
        images_B1HW: uint8, on the CPU.
        params: one row an image.
        out_size_px: side of the result.
        scale: of the gray value.
        bias: added.
    """
    num_images, _, height, width = images_B1HW.shape
    images_BHW = images_B1HW.squeeze(1).contiguous()
    out_B1hw = torch.empty((num_images, 1, out_size_px, out_size_px), dtype=torch.float32)
    if num_images == 0:
        return out_B1hw
    if height == 0 or width == 0:
        return out_B1hw.fill_(bias)
    places = fixed_places_B23(params, height_px=height, width_px=width, out_size_px=out_size_px)
    if library is not None:
        _compiled(images_BHW, places, scale, bias, out_B1hw)
    else:
        _by_tensors(images_BHW, places, scale, bias, out_B1hw)
    return out_B1hw


def _compiled(images_BHW: torch.Tensor, places_B23: Places, scale: float, bias: float, out_B1hw: torch.Tensor) -> None:
    """Fill `out_B1hw` by the compiled loop, a stretch of the batch in each thread."""
    assert library is not None
    assert images_BHW.dtype == torch.uint8
    assert images_BHW.is_contiguous()
    assert places_B23.flags.c_contiguous
    num_images, height, width = images_BHW.shape
    assert places_B23.shape == (num_images, 2, 3)
    function, out_size = library.cxr_resample, out_B1hw.shape[-1]
    images_at, places_at, out_at = images_BHW.data_ptr(), places_B23.ctypes.data, out_B1hw.data_ptr()

    def work(first: int, stop: int) -> None:
        no_memory = function(
            images_at + first * height * width,
            stop - first,
            height,
            width,
            places_at + first * 6 * 8,
            out_size,
            scale,
            bias,
            out_at + first * out_size**2 * 4,
        )
        if no_memory:
            raise MemoryError("resample: no memory for a row of pixels")

    num_threads = min(torch.get_num_threads(), num_images)
    edges = [num_images * thread // num_threads for thread in range(num_threads + 1)]
    others = [_threads(num_threads - 1, os.getpid()).submit(work, first, stop) for first, stop in pairwise(edges[1:])]
    try:
        work(0, edges[1])
    finally:
        for other in others:
            other.result()


@lru_cache(maxsize=4)
def _threads(num_threads: int, _process: int) -> ThreadPoolExecutor:
    """Return threads that wait for work; a forked process has none of its parent's."""
    return ThreadPoolExecutor(num_threads, thread_name_prefix="resample")


def _by_tensors(
    images_BHW: torch.Tensor, places_B23: Places, scale: float, bias: float, out_B1hw: torch.Tensor
) -> None:
    """Fill `out_B1hw` by tensor operations: the whole batch by rows and columns where no image is turned."""
    num_images, height, width = images_BHW.shape
    out_size = out_B1hw.shape[-1]
    is_turned = places_B23[:, 0, 1].any() or places_B23[:, 1, 0].any()  # x depends on the row, or y on the column
    function = _turned if is_turned else _upright
    chunk = max(1, _CHUNK_PIXELS // max(height * width, out_size**2))
    for first in range(0, num_images, chunk):
        part = slice(first, first + chunk)
        gray_bhw = function(images_BHW[part], torch.from_numpy(places_B23[part]), out_size)
        out_B1hw[part, 0] = gray_bhw.mul_(scale).add_(bias)


def _upright(images_bHW: torch.Tensor, places_b23: torch.Tensor, out_size: int) -> torch.Tensor:
    """Return what the places say, rows staying rows: columns are copied as the rows of the turned image."""
    steps_h = torch.arange(out_size) * 2 + 1 - out_size
    x_bw = places_b23[:, 0, 2, None] + places_b23[:, 0, 0, None] * steps_h
    y_bh = places_b23[:, 1, 2, None] + places_b23[:, 1, 1, None] * steps_h
    blended_bhW = _between_rows(images_bHW, y_bh)
    return _between_rows(blended_bhW.transpose(1, 2).contiguous(), x_bw).transpose(1, 2)


def _between_rows(images_bRK: torch.Tensor, place_br: torch.Tensor) -> torch.Tensor:
    """Return for each place a row of K pixels between two rows: float32 [b, r, K]; rows outside are 0."""
    num_images, num_rows, row_length = images_bRK.shape
    rows_nK = images_bRK.reshape(num_images * num_rows, row_length)
    before_br = place_br >> FRACTION_BITS
    first_b1 = torch.arange(num_images)[:, None] * num_rows

    def row(number_br: torch.Tensor) -> torch.Tensor:
        found_nK = rows_nK.index_select(0, (first_b1 + number_br.clamp(0, num_rows - 1)).reshape(-1)).float()
        is_inside_br = (number_br >= 0) & (number_br < num_rows)
        return found_nK.view(num_images, -1, row_length).mul_(is_inside_br[:, :, None])

    return _between(row(before_br), row(before_br + 1), _share(place_br)[:, :, None])


def _turned(images_bHW: torch.Tensor, places_b23: torch.Tensor, out_size: int) -> torch.Tensor:
    """Return what any places say."""
    num_images, height, width = images_bHW.shape
    steps_h = torch.arange(out_size) * 2 + 1 - out_size

    def coordinate(coefficients_b3: torch.Tensor) -> torch.Tensor:
        column_b11, row_b11, centre_b11 = coefficients_b3[:, :, None, None].unbind(1)
        return centre_b11 + row_b11 * steps_h[:, None] + column_b11 * steps_h

    x_bhw, y_bhw = coordinate(places_b23[:, 0]), coordinate(places_b23[:, 1])
    column_bhw, row_bhw = x_bhw >> FRACTION_BITS, y_bhw >> FRACTION_BITS
    first_b11 = torch.arange(num_images)[:, None, None] * (height * width)

    def tap(row_bhw: torch.Tensor, column_bhw: torch.Tensor) -> torch.Tensor:
        is_inside = (row_bhw >= 0) & (row_bhw < height) & (column_bhw >= 0) & (column_bhw < width)
        number = first_b11 + row_bhw.clamp(0, height - 1) * width + column_bhw.clamp(0, width - 1)
        return images_bHW.take(number).float().mul_(is_inside)

    share_y = _share(y_bhw)
    left = _between(tap(row_bhw, column_bhw), tap(row_bhw + 1, column_bhw), share_y)
    right = _between(tap(row_bhw, column_bhw + 1), tap(row_bhw + 1, column_bhw + 1), share_y)
    return _between(left, right, _share(x_bhw))


def _share(place: torch.Tensor) -> torch.Tensor:
    """Return how far a fixed place lies beyond the pixel before it: float32, the upper 24 bits of the fraction."""
    return ((place & 0xFFFFFFFF) >> 8).float().mul_(2.0**-24)


def _between(low: torch.Tensor, high: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Return low + share * (high - low), each operation rounded by itself: what the compiled loop does."""
    return (high - low).mul_(share).add_(low)
