"""The loss step of NVUM: memory, prior adjustment, memory mixup, cross-entropy, regulariser.

Liu et al., "NVUM: Non-Volatile Unbiased Memory for Robust Medical Image Classification", MICCAI 2022, arXiv 2103.04053.

    new_b = memory_decay * memory[index_b] + (1 - memory_decay) * (teacher_b - prior_temperature * log prior)
    q_b   = lam * new_b + (1 - lam) * new_perm(b)                      (memory mixup; lam = 1: none)
    p     = clamp(sigmoid(student), clamp, 1 - clamp)                  (the clamp passes no gradient where it acts)

    elementwise    reg = sum_bc mask_bc * log(1 - sigmoid(q_bc * p_bc)) / (n * C)
    inner_product  reg = sum_b log(1 - sigmoid(sum_c mask_bc * q_bc * p_bc)) / n
    loss           = sum_bc mask_bc * bce_bc / (n * C) + reg_weight * reg

`n` counts the rows with index >= 0 over all ranks. Where the memory agrees with the prediction the regulariser is very
negative, so the loss may be too. No gradient flows through q, the memory or the teacher.

Shapes in names: B rows of this rank's batch, C outputs, N rows of the pack.
"""

import logging
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Literal, get_args

import torch

from trainer import nvum_native
from trainer.losses import LossParts
from trainer.memory import NVUMMemory
from trainer.nvum_analytic import analytic_step
from trainer.nvum_config import NVUMConfig, NVUMInputs, Regulariser, log_prior
from trainer.nvum_native import native_step, suits_native
from trainer.nvum_plain import plain_step

__all__ = ["Implementation", "NVUMConfig", "Regulariser", "log_prior", "nvum_step"]

Implementation = Literal["auto", "plain", "analytic", "native", "triton"]
"""Who computes the step: `plain` (autograd, the oracle), `analytic` (gradient written down), `native` (a compiled loop
for CPUs), `triton` (one kernel for CUDA)."""

logger = logging.getLogger(__name__)

HAS_TRITON = find_spec("triton") is not None
"""CUDA builds of torch for Linux bring it along."""


def nvum_step(
    logits_BC: torch.Tensor,
    teacher_logits_BC: torch.Tensor,
    targets_BC: torch.Tensor,
    mask_BC: torch.Tensor,
    index_B: torch.Tensor,
    *,
    memory: NVUMMemory,
    log_prior_C: torch.Tensor,
    perm_B: torch.Tensor | None,
    lam: float | torch.Tensor,
    config: NVUMConfig,
    num_global: int,
    implementation: Implementation = "auto",
) -> LossParts:
    """Return the loss of a step, and write the batch's rows into the memory's current buffer.

    Everything is computed in float32 whatever the autocast type (float64 stays float64), nothing waits for a GPU,
    and running the step twice gives the same loss and the same memory.

    Args:
        logits_BC: student logits, any floating type.
        teacher_logits_BC: logits to remember: the EMA teacher's, or the student's own. A row with one that is not
            finite is not written and counted; it, and who mixes with it, use its old memory row.
        targets_BC: labels in [0, 1].
        mask_BC: bool or 0/1; 0 marks an entry without a label: no loss, gradient exactly 0. Where it is of a floating
            type its values weigh the entries' cross-entropy (a positive weight a finding, say), not the regulariser.
        index_B: int64 `sample_index`, the row of the memory; -1 marks a row that does not count: no loss, no write,
            gradient exactly 0. An index occurs once in a batch, and is below the memory's number of rows: a larger one
            is an error on a CPU, and makes the loss NaN (and reads and writes nothing) in the kernel.
        memory: rows of the whole pack; `previous` is read, `current` written.
        log_prior_C: see `log_prior`.
        perm_B: int64, the row of the batch that each row's memory mixes with; a partner that is skipped or out of the
            batch counts as none. None, or `config.mixup` off: no mixup.
        lam: share of the row's own memory, in [0, 1]; a scalar tensor where the step is compiled or captured in a CUDA
            graph, which would take a number for a constant.
        config: the method's settings.
        num_global: rows with index >= 0 of this step over all ranks; at least 1 is assumed.
        implementation: `auto` is the kernel on CUDA for float32 and below; on a CPU the compiled loop for what it takes
            (contiguous float32, outside of a graph, `reg_weight` above 0, which else is cross-entropy to the bit); and
            the analytic step elsewhere.
    """
    if teacher_logits_BC.requires_grad:
        teacher_logits_BC = teacher_logits_BC.detach()
    inputs = NVUMInputs(
        logits_BC,
        teacher_logits_BC,
        targets_BC,
        mask_BC,
        index_B,
        memory,
        log_prior_C,
        perm_B if config.mixup else None,
        lam,
        config,
        num_global,
    )
    return step_function(implementation, inputs)(inputs)


def step_function(implementation: Implementation, inputs: NVUMInputs) -> Callable[[NVUMInputs], LossParts]:
    """Return the function that computes the step.

    Raises:
        ValueError: there is no such implementation, or the compiled loop does not take these inputs.
    """
    if implementation == "auto":
        implementation = chosen(inputs)
    elif implementation == "native" and not (nvum_native.library is not None and suits_native(inputs)):
        raise ValueError(
            "implementation='native' takes contiguous float32 tensors on a CPU, outside of a graph, and needs a C "
            "compiler when the project is installed; use implementation='analytic'"
        )
    if implementation == "plain":
        return plain_step
    if implementation == "analytic":
        return analytic_step
    if implementation == "native":
        return native_step
    if implementation == "triton":
        from trainer.nvum_triton import triton_step  # triton is not installed everywhere

        return triton_step
    raise ValueError(f"implementation={implementation!r}: expected {', '.join(get_args(Implementation))}")


def chosen(inputs: NVUMInputs) -> Implementation:
    """Return what `auto` stands for; say so where something faster is missing."""
    if suits_the_kernel(inputs):
        if HAS_TRITON:
            return "triton"
        say_that_triton_is_missing()
    elif cpu_implementation() == "native" and inputs.config.reg_weight > 0 and suits_native(inputs):
        return "native"
    return "analytic"


def cpu_implementation() -> Implementation:
    """Return who computes the steps of a run on a CPU here: `native` where the compiled loop was built."""
    return "analytic" if nvum_native.library is None else "native"


def suits_the_kernel(inputs: NVUMInputs) -> bool:
    """Return whether the step is on CUDA and computes in float32."""
    types = {inputs.logits_BC.dtype, inputs.teacher_logits_BC.dtype, inputs.memory.dtype}
    return inputs.logits_BC.is_cuda and torch.float64 not in types


@cache
def say_that_triton_is_missing() -> None:
    """Warn, once."""
    logger.warning("triton is not installed: the NVUM step takes many launches on the GPU instead of one")
