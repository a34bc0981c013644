"""Triton's interpreter runs a kernel with a runtime loop bound on CPU tensors; TRITON_INTERPRET=1 must be set."""

import torch
import triton
import triton.language as tl

BLOCK = 32


@triton.jit  # type: ignore[untyped-decorator]
def sum_rows(x_ptr, out_ptr, num_rows, num_columns, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Write the sum over the rows of x [num_rows, num_columns] to out [num_columns]."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = column < num_columns
    total = tl.zeros((BLOCK,), tl.float32)
    for row in range(num_rows):
        total += tl.load(x_ptr + row * num_columns + column, mask=inside, other=0.0)
    tl.store(out_ptr + column, total, mask=inside)


x = torch.randn(7, 100, generator=torch.Generator().manual_seed(0))
out = torch.empty(100)
sum_rows[(triton.cdiv(100, BLOCK),)](x, out, 7, 100, BLOCK=BLOCK)
torch.testing.assert_close(out, x.sum(0))
