"""The NVUM step on a CPU by a compiled loop (`nvum_native.c`): one call instead of some 45 torch operations.

Held against `trainer.nvum_plain` and golden values. Its memory rows are the plain step's to the bit; loss and gradient
are as near as float32 allows, and the same bits on every processor and for any number of threads.

Shapes in names: B rows of this rank's batch, C outputs, N rows of the pack.
"""

import ctypes
from collections.abc import Callable
from struct import Struct
from typing import Any

import torch
from torch.autograd.function import FunctionCtx

from pipeline.compiled import compiled_library
from trainer.losses import LossParts
from trainer.nvum_config import NVUMInputs

MOST_OUTPUTS = 512
"""Of one row: what the loop works on at a time (`TILE` in its source)."""

_STEP = Struct("@16P3q2d8f2i")
"""`Step` of the C source."""

_SCALAR, _COUNT = torch.zeros(()), torch.zeros((), dtype=torch.int64)
"""What results are made like: a third quicker than from a shape."""

_BEYOND = 1
"""What the C function returns where an index is beyond the memory."""

_FLOAT, _INDEX, _BOOL = torch.float32, torch.int64, torch.bool


def load() -> ctypes.CDLL | None:
    """Return the compiled library, or None where it was not built.

    Raises:
        ImportError: it was built from another version of the source.
    """
    library = compiled_library("trainer._nvum_native")
    if library is not None:
        if not hasattr(library, "cxr_nvum_loss_step"):
            raise ImportError("trainer._nvum_native was built from another version of nvum_native.c: run `make setup`")
        library.cxr_nvum_loss_step.argtypes = [ctypes.c_char_p]
    return library


library = load()


def suits_native(inputs: NVUMInputs) -> bool:
    """Return whether the step is on a CPU, computes in float32, and nothing would have to be copied for it."""
    logits_BC, teacher_BC, targets_BC, mask_BC, index_B, memory, log_prior_C, perm_B, *_ = inputs
    for tensor in (logits_BC, teacher_BC, targets_BC, log_prior_C):
        if not (tensor.dtype is _FLOAT and tensor.is_cpu and tensor.is_contiguous()):
            return False
    for tensor in (index_B,) if perm_B is None else (index_B, perm_B):
        if not (tensor.dtype is _INDEX and tensor.is_cpu and tensor.is_contiguous()):
            return False
    return (
        (mask_BC.dtype is _BOOL or mask_BC.dtype is _FLOAT)
        and mask_BC.is_cpu
        and mask_BC.is_contiguous()
        and memory.is_cpu
        and memory.dtype is _FLOAT
        and 0 < logits_BC.shape[1] <= MOST_OUTPUTS
        and not torch.compiler.is_compiling()
    )


def native_step(inputs: NVUMInputs) -> LossParts:
    """Return the loss of a step, and write the batch's rows into the memory's current buffer.

    Only for what `suits_native`: the loop reads from addresses.

    Raises:
        IndexError: an index is beyond the memory; nothing is written then.
        MemoryError: there is no room for the batch's rows; nothing is written then.
    """
    assert library is not None
    logits_BC, teacher_BC, targets_BC, mask_BC, index_B, memory, log_prior_C, perm_B, lam, config, _ = inputs
    batch_size, num_outputs = logits_BC.shape
    lam, decay, clamp = float(lam), config.memory_decay, config.clamp
    is_elementwise = config.regulariser == "elementwise"
    entry_share = inputs.entry_share
    grad_BC = torch.empty_like(logits_BC)
    loss, bce, reg = torch.empty_like(_SCALAR), torch.empty_like(_SCALAR), torch.empty_like(_SCALAR)
    num_rows_skipped, num_rows_nonfinite = torch.empty_like(_COUNT), torch.empty_like(_COUNT)
    error = library.cxr_nvum_loss_step(
        _STEP.pack(
            logits_BC.data_ptr(),
            teacher_BC.data_ptr(),
            targets_BC.data_ptr(),
            mask_BC.data_ptr(),
            index_B.data_ptr(),
            0 if perm_B is None else perm_B.data_ptr(),
            log_prior_C.data_ptr(),
            *memory.addresses,
            grad_BC.data_ptr(),
            loss.data_ptr(),
            bce.data_ptr(),
            reg.data_ptr(),
            num_rows_skipped.data_ptr(),
            num_rows_nonfinite.data_ptr(),
            batch_size,
            num_outputs,
            memory.num_rows,
            entry_share,
            entry_share if is_elementwise else inputs.term_share,
            lam,
            1 - lam,
            decay,
            1 - decay,
            config.prior_temperature,
            config.reg_weight,
            clamp,
            1 - clamp,
            is_elementwise,
            mask_BC.dtype is not _BOOL,
        )
    )
    if error == _BEYOND:
        raise IndexError(f"sample_index {int(index_B.max())} is beyond the memory's {memory.num_rows} rows")
    if error:
        raise MemoryError(f"the NVUM step: no room for {batch_size} x {num_outputs} values")
    return LossParts(_known_gradient(logits_BC, (loss, grad_BC)), bce, reg, num_rows_skipped, num_rows_nonfinite)


class _KnownGradient(torch.autograd.Function):
    """The loss, whose gradient was computed together with it; leaner than `with_gradient`, and for a CPU only."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, logits_BC: torch.Tensor, loss_and_gradient: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        loss, grad_BC = loss_and_gradient
        ctx.save_for_backward(grad_BC)
        return loss

    @staticmethod
    def backward(ctx: Any, grad_loss: torch.Tensor) -> tuple[torch.Tensor, None]:
        if torch.is_grad_enabled():
            raise RuntimeError("the NVUM step is differentiated once: backward without create_graph")
        (grad_BC,) = ctx.saved_tensors
        # Without a factor the tensor itself goes on, and nothing is allocated: autograd lets go of it by itself.
        return grad_BC if grad_loss.item() == 1 else grad_BC * grad_loss, None


_known_gradient: Callable[..., torch.Tensor] = super(torch.autograd.Function, _KnownGradient).apply
"""`_KnownGradient.apply` without what that does for functorch, whose tensors have no address: a third of its time."""
