"""The NVUM step on a CPU by a compiled loop (`nvum_native.c`): one call instead of some 45 torch operations.

Held against `trainer.nvum_plain` and golden values. Its memory rows are the plain step's to the bit; loss and gradient
are as near as float32 allows, and the same bits on every processor and for any number of threads.

Shapes in names: B rows of this rank's batch, C outputs, N rows of the pack.
"""

import ctypes
from struct import Struct
from typing import Any

import torch
from torch.autograd.function import FunctionCtx

from pipeline.compiled import compiled_library
from trainer.losses import LossParts
from trainer.nvum_config import NVUMInputs

MOST_OUTPUTS = 512
"""Of one row: what the loop works on at a time (`TILE` in its source)."""

_SETTINGS = Struct("@2d8f2i")
"""`Settings` of the C source."""

_ARRAYS = Struct("@17P3q")
"""`Arrays` of the C source."""

_SCALAR, _COUNT = torch.zeros(()), torch.zeros((), dtype=torch.int64)
"""What results are made like: a third quicker than from a shape."""


def load() -> ctypes.CDLL | None:
    """Return the compiled library, or None where it was not built."""
    library = compiled_library("trainer._nvum_native")
    if library is not None:
        library.cxr_nvum_step.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    return library


library = load()


def suits_native(inputs: NVUMInputs) -> bool:
    """Return whether the step is on a CPU, computes in float32, and nothing would have to be copied for it."""
    logits_BC, mask_BC, perm_B, memory = inputs.logits_BC, inputs.mask_BC, inputs.perm_B, inputs.memory
    for tensor in (logits_BC, inputs.teacher_logits_BC, inputs.targets_BC, inputs.log_prior_C):
        if not (tensor.is_cpu and tensor.dtype == torch.float32 and tensor.is_contiguous()):
            return False
    for tensor in (inputs.index_B,) if perm_B is None else (inputs.index_B, perm_B):
        if not (tensor.is_cpu and tensor.dtype == torch.int64 and tensor.is_contiguous()):
            return False
    return (
        mask_BC.is_cpu
        and mask_BC.dtype in (torch.bool, torch.float32)
        and mask_BC.is_contiguous()
        and memory.is_cpu
        and memory.dtype == torch.float32
        and 0 < logits_BC.shape[1] <= MOST_OUTPUTS
        and not torch.compiler.is_compiling()
    )


def native_step(inputs: NVUMInputs) -> LossParts:
    """Return the loss of a step, and write the batch's rows into the memory's current buffer.

    Only for what `suits_native`: the loop reads from addresses.

    Raises:
        IndexError: an index is beyond the memory; nothing is written then.
    """
    assert library is not None
    logits_BC, config, memory, perm_B = inputs.logits_BC, inputs.config, inputs.memory, inputs.perm_B
    batch_size, num_outputs = logits_BC.shape
    lam, is_elementwise = float(inputs.lam), config.regulariser == "elementwise"
    entry_share = inputs.entry_share
    rows_BC, grad_BC = torch.empty_like(logits_BC), torch.empty_like(logits_BC)
    loss, bce, reg = torch.empty_like(_SCALAR), torch.empty_like(_SCALAR), torch.empty_like(_SCALAR)
    num_rows_skipped, num_rows_nonfinite = torch.empty_like(_COUNT), torch.empty_like(_COUNT)
    settings = _SETTINGS.pack(
        entry_share,
        entry_share if is_elementwise else inputs.term_share,
        lam,
        1 - lam,
        config.memory_decay,
        1 - config.memory_decay,
        config.prior_temperature,
        config.reg_weight,
        config.clamp,
        1 - config.clamp,
        is_elementwise,
        inputs.mask_BC.dtype != torch.bool,
    )
    arrays = _ARRAYS.pack(
        logits_BC.data_ptr(),
        inputs.teacher_logits_BC.data_ptr(),
        inputs.targets_BC.data_ptr(),
        inputs.mask_BC.data_ptr(),
        inputs.index_B.data_ptr(),
        0 if perm_B is None else perm_B.data_ptr(),
        inputs.log_prior_C.data_ptr(),
        *memory.addresses,
        rows_BC.data_ptr(),
        grad_BC.data_ptr(),
        loss.data_ptr(),
        bce.data_ptr(),
        reg.data_ptr(),
        num_rows_skipped.data_ptr(),
        num_rows_nonfinite.data_ptr(),
        batch_size,
        num_outputs,
        memory.num_rows,
    )
    is_beyond = library.cxr_nvum_step(arrays, settings)
    if is_beyond:
        raise IndexError(f"sample_index {int(inputs.index_B.max())} is beyond the memory's {memory.num_rows} rows")
    return LossParts(
        loss=_KnownGradient.apply(logits_BC, (loss, grad_BC)),  # type: ignore[no-untyped-call]
        bce=bce,
        reg=reg,
        num_rows_skipped=num_rows_skipped,
        num_rows_nonfinite=num_rows_nonfinite,
    )


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
