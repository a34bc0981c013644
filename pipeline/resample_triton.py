"""The resample on a GPU as one Triton kernel: packed pixels in, normalised images out, one launch.

Held against `pipeline.resample_plain`, on GPUs and, wherever triton is installed, in its interpreter. A program
computes `BLOCK` output pixels of one image; its loads of neighbours overlap, which the L1 cache serves.

Shapes: B images of H x W packed pixels, h x w after resampling; K output pixels of a program.
"""

import numpy as np
import torch
import triton
import triton.language as tl

from pipeline.augment import AugmentParams
from pipeline.resample_places import places_B23

BLOCK = 1024
"""Output pixels of a program: eight for each thread of four warps."""

NUM_WARPS = 4


@triton.jit  # type: ignore[untyped-decorator]
def tap(image_ptr, row_K, column_K, inside_K, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return pixels, float32 [K]; 0 outside of the image."""
    inside_K = inside_K & (row_K >= 0) & (row_K < HEIGHT) & (column_K >= 0) & (column_K < WIDTH)
    return tl.load(image_ptr + row_K * WIDTH + column_K, mask=inside_K, other=0).to(tl.float32)


@triton.jit  # type: ignore[untyped-decorator]
def resample_kernel(  # type: ignore[no-untyped-def]
    images_ptr, places_ptr, out_ptr, scale, bias,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute one block of pixels of one image."""
    blocks_per_image = tl.cdiv(SIZE * SIZE, BLOCK)
    image = (tl.program_id(0) // blocks_per_image).to(tl.int64)
    pixel_K = tl.program_id(0) % blocks_per_image * BLOCK + tl.arange(0, BLOCK)
    exists_K = pixel_K < SIZE * SIZE
    across_K = (2 * (pixel_K % SIZE) + 1 - SIZE).to(tl.float32)
    down_K = (2 * (pixel_K // SIZE) + 1 - SIZE).to(tl.float32)

    place_ptr = places_ptr + image * 6
    x_K = tl.load(place_ptr) * across_K + tl.load(place_ptr + 1) * down_K + tl.load(place_ptr + 2)
    y_K = tl.load(place_ptr + 3) * across_K + tl.load(place_ptr + 4) * down_K + tl.load(place_ptr + 5)
    left_K, upper_K = tl.floor(x_K), tl.floor(y_K)
    share_x_K, share_y_K = x_K - left_K, y_K - upper_K
    column_K, row_K = left_K.to(tl.int32), upper_K.to(tl.int32)

    image_ptr = images_ptr + image * (HEIGHT * WIDTH)
    upper_left_K = tap(image_ptr, row_K, column_K, exists_K, HEIGHT, WIDTH)
    upper_right_K = tap(image_ptr, row_K, column_K + 1, exists_K, HEIGHT, WIDTH)
    lower_left_K = tap(image_ptr, row_K + 1, column_K, exists_K, HEIGHT, WIDTH)
    lower_right_K = tap(image_ptr, row_K + 1, column_K + 1, exists_K, HEIGHT, WIDTH)
    at_left_K = upper_left_K + share_y_K * (lower_left_K - upper_left_K)
    at_right_K = upper_right_K + share_y_K * (lower_right_K - upper_right_K)
    gray_K = at_left_K + share_x_K * (at_right_K - at_left_K)
    out_K = gray_K * scale + bias
    tl.store(out_ptr + image * (SIZE * SIZE) + pixel_K, out_K.to(out_ptr.dtype.element_ty), mask=exists_K)


def resample_triton(
    images_B1HW: torch.Tensor,
    params: AugmentParams,
    out_size_px: int,
    *,
    scale: float = 1.0,
    bias: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Return ``gray * scale + bias`` of the bilinear value at the place of every output: `dtype` [B, 1, h, w].

    The parameters go up in one copy from pinned memory; nothing waits for the GPU.

    Args:
        images_B1HW: uint8, on a GPU, or anywhere in Triton's interpreter.
        params: one row an image.
        out_size_px: side of the result.
        scale: of the gray value.
        bias: added.
        dtype: of the result; the arithmetic before is float32.
    """
    num_images, _, height, width = images_B1HW.shape
    out_B1hw = images_B1HW.new_empty((num_images, 1, out_size_px, out_size_px), dtype=dtype)
    if num_images == 0:
        return out_B1hw
    places = places_B23(params, height_px=height, width_px=width, out_size_px=out_size_px)
    on_host = torch.from_numpy(places.astype(np.float32))
    if images_B1HW.is_cuda:
        on_host = on_host.pin_memory()
    num_programs = num_images * triton.cdiv(out_size_px**2, BLOCK)
    resample_kernel[(num_programs,)](
        images_B1HW.contiguous(),
        on_host.to(images_B1HW.device, non_blocking=True),
        out_B1hw,
        scale,
        bias,
        HEIGHT=height,
        WIDTH=width,
        SIZE=out_size_px,
        BLOCK=BLOCK,
        num_warps=NUM_WARPS,
    )
    return out_B1hw
