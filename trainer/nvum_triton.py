"""The NVUM step by its Triton kernel: one launch for the forward pass, on CUDA.

Held against `trainer.nvum_plain` and golden values: in Triton's interpreter on tensors of the CPU (TRITON_INTERPRET=1
before triton is imported), and on GPUs by the tests with the marker `gpu`. The gradient stays in float32 until the
backward pass has scaled it.

Shapes in names: B rows of this rank's batch, C outputs, N rows of the pack, P programs.
"""

from typing import Any

import torch
import triton

from trainer.losses import LossParts
from trainer.nvum_analytic import with_gradient
from trainer.nvum_config import NVUMInputs
from trainer.nvum_kernel import nvum_kernel

TILE = 512
"""Entries of a program. Four for each thread of four warps: many small programs hide the latency of their gathers."""

NUM_WARPS = 4


def triton_step(inputs: NVUMInputs) -> LossParts:
    """Return the loss of a step, and write the batch's rows into the memory's current buffer.

    Usable in a graph of `torch.compile`, as an operator that it does not look into.

    Raises:
        ValueError: the memory or the logits are not of a type that the kernel computes in.
    """
    memory, config = inputs.memory, inputs.config
    if memory.dtype != torch.float32 or torch.float64 in (inputs.logits_BC.dtype, inputs.teacher_logits_BC.dtype):
        raise ValueError(
            f"the kernel computes in float32: found logits of {inputs.logits_BC.dtype}, a teacher of "
            f"{inputs.teacher_logits_BC.dtype}, a memory of {memory.dtype}; use implementation='analytic'"
        )
    in_graph = torch.compiler.is_compiling()
    lam = inputs.lam
    if in_graph and not isinstance(lam, torch.Tensor):
        lam = torch.full((), lam, device=inputs.logits_BC.device)
    sums_3, counts_2, grad_BC = (_operator if in_graph else launch)(
        inputs.logits_BC.detach(),
        inputs.teacher_logits_BC,
        inputs.targets_BC,
        inputs.mask_BC,
        inputs.index_B,
        inputs.perm_B,
        inputs.log_prior_C,
        memory.previous_NC,
        memory.current_NC,
        memory.touched_N,
        memory.arrivals,
        lam,
        config.regulariser == "elementwise",
        config.memory_decay,
        config.prior_temperature,
        config.reg_weight,
        config.clamp,
        inputs.entry_share,
        inputs.term_share,
    )
    return LossParts(
        loss=with_gradient(sums_3[0], inputs.logits_BC, grad_BC),
        bce=sums_3[1],
        reg=sums_3[2],
        num_rows_skipped=counts_2[0],
        num_rows_nonfinite=counts_2[1],
    )


def launch(
    logits_BC: torch.Tensor,
    teacher_BC: torch.Tensor,
    targets_BC: torch.Tensor,
    mask_BC: torch.Tensor,
    index_B: torch.Tensor,
    perm_B: torch.Tensor | None,
    log_prior_C: torch.Tensor,
    previous_NC: torch.Tensor,
    current_NC: torch.Tensor,
    touched_N: torch.Tensor,
    arrivals: torch.Tensor,
    lam: float | torch.Tensor,
    elementwise: bool,
    memory_decay: float,
    prior_temperature: float,
    reg_weight: float,
    clamp: float,
    entry_share: float,
    term_share: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Launch the kernel once.

    Args:
        logits_BC: this tensor and those after it: see `trainer.nvum.nvum_step`.
        teacher_BC: the logits to remember.
        targets_BC: labels.
        mask_BC: bool, or weights.
        index_B: rows of the memory.
        perm_B: partners; None: no mixup.
        log_prior_C: what is taken off the teacher's logits.
        previous_NC: float32, read.
        current_NC: float32, written.
        touched_N: bool, written.
        arrivals: int32 [1], 0 before and after.
        lam: scalar tensor, or a number.
        elementwise: form of the regulariser.
        memory_decay: see `NVUMConfig`, these four.
        prior_temperature: times the log prior.
        reg_weight: weight of the regulariser.
        clamp: of the probabilities in it.
        entry_share: what an entry weighs in the cross-entropy.
        term_share: what a term weighs in the regulariser.

    Returns:
        float32 [3]: loss, cross-entropy, regulariser; int64 [2]: rows skipped, rows not finite; float32 [B, C]: the
        gradient of the loss with respect to the logits.
    """
    batch_size, num_outputs = logits_BC.shape
    device = logits_BC.device
    grad_BC = torch.empty(batch_size, num_outputs, dtype=torch.float32, device=device)
    if not batch_size:
        zeros = torch.zeros(3, device=device)
        return zeros, torch.zeros(2, dtype=torch.int64, device=device), grad_BC
    block_c = triton.next_power_of_2(num_outputs)
    block_b = max(1, min(TILE // block_c, triton.next_power_of_2(batch_size)))
    num_programs = triton.cdiv(batch_size, block_b)
    sums_3 = torch.empty(3, dtype=torch.float32, device=device)
    counts_2 = torch.empty(2, dtype=torch.int64, device=device)
    partials_4P = torch.empty(4, num_programs, dtype=torch.float32, device=device)
    with torch.cuda.device_of(logits_BC):  # type: ignore[no-untyped-call]
        nvum_kernel[(num_programs,)](
            logits_BC.contiguous(),
            teacher_BC.contiguous(),
            numbers(targets_BC).contiguous(),
            numbers(mask_BC).contiguous(),
            index_B.contiguous(),
            (index_B if perm_B is None else perm_B).contiguous(),
            log_prior_C.contiguous(),
            previous_NC,
            current_NC,
            numbers(touched_N),
            arrivals,
            partials_4P,
            grad_BC,
            sums_3,
            counts_2,
            batch_size,
            previous_NC.shape[0],
            lam if isinstance(lam, torch.Tensor) else float(lam),
            memory_decay,
            1 - memory_decay,
            prior_temperature,
            reg_weight,
            clamp,
            1 - clamp,
            entry_share,
            term_share,
            NUM_OUTPUTS=num_outputs,
            ELEMENTWISE=elementwise,
            MIXES=perm_B is not None,
            LAM_IS_POINTER=isinstance(lam, torch.Tensor),
            BLOCK_B=block_b,
            BLOCK_C=block_c,
            BLOCK_P=triton.next_power_of_2(num_programs),
            num_warps=NUM_WARPS,
        )
    return sums_3, counts_2, grad_BC


def numbers(values: torch.Tensor) -> torch.Tensor:
    """Return a view of booleans as 0 and 1, and other values as they are."""
    return values.view(torch.uint8) if values.dtype == torch.bool else values


@torch.library.custom_op("cxr_nvum::loss_step", mutates_args=("current_NC", "touched_N", "arrivals"))
def _operator(
    logits_BC: torch.Tensor,
    teacher_BC: torch.Tensor,
    targets_BC: torch.Tensor,
    mask_BC: torch.Tensor,
    index_B: torch.Tensor,
    perm_B: torch.Tensor | None,
    log_prior_C: torch.Tensor,
    previous_NC: torch.Tensor,
    current_NC: torch.Tensor,
    touched_N: torch.Tensor,
    arrivals: torch.Tensor,
    lam: torch.Tensor,
    elementwise: bool,
    memory_decay: float,
    prior_temperature: float,
    reg_weight: float,
    clamp: float,
    entry_share: float,
    term_share: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Do what `launch` does, under the name by which a compiled graph calls it."""
    return launch(
        logits_BC,
        teacher_BC,
        targets_BC,
        mask_BC,
        index_B,
        perm_B,
        log_prior_C,
        previous_NC,
        current_NC,
        touched_N,
        arrivals,
        lam,
        elementwise,
        memory_decay,
        prior_temperature,
        reg_weight,
        clamp,
        entry_share,
        term_share,
    )


@_operator.register_fake
def _(logits_BC: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    sums_3 = logits_BC.new_empty(3, dtype=torch.float32)
    counts_2 = logits_BC.new_empty(2, dtype=torch.int64)
    return sums_3, counts_2, torch.empty_like(logits_BC, dtype=torch.float32, memory_format=torch.contiguous_format)
