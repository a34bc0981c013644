"""The loss step of NVUM as one Triton kernel: one launch gives memory, loss and gradient.

Held against `trainer.nvum_plain` and the golden values, on GPUs and, wherever triton is installed, in its interpreter.
Equations: `trainer.nvum`. A program takes `BLOCK_B` rows of the batch with all their outputs:

    index -> old memory rows \\                                          / current rows, touched
    teacher's logits --------- new rows -> mixup -> q \\                 /
    partner -> its index -> its old row, its logits --/  loss, gradient - gradient [B, C]
    student's logits, targets, mask ------------------/                 \\ partial sums of this program

- A row's mixup partner is computed once more by the program that needs it, from the previous buffer, which nobody
  writes. So programs never wait for one another.
- Sums are the same bits each time: every program stores its own, and the one that arrives last (an integer counter)
  adds them up by program number, whichever it is.
- The gradient stays in float32 until the backward pass has scaled it.

Shapes in names: B rows of this rank's batch, C outputs, N rows of the pack, P programs.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from trainer.losses import LossParts
from trainer.nvum_analytic import with_gradient
from trainer.nvum_config import NVUMInputs

TILE = 512
"""Entries of a program. Four for each thread of four warps: many small programs hide the latency of their gathers."""

NUM_WARPS = 4


@triton.jit
def remembered_rows(old_BC, teacher_BC, shift_C, decay, fresh_share, real_BC):  # type: ignore[no-untyped-def]
    """Return rows after the update, the old ones where a logit is not finite; and which were updated, int1 [B]."""
    updated_BC = decay * old_BC + fresh_share * (teacher_BC - shift_C[None, :])
    unfit_BC = real_BC & ~(tl.abs(updated_BC) < float("inf"))
    is_fit_B = tl.sum(unfit_BC.to(tl.int32), axis=1) == 0
    return tl.where(is_fit_B[:, None], updated_BC, old_BC), is_fit_B


@triton.jit
def sigmoid_and_kin(x):  # type: ignore[no-untyped-def]
    """Return sigmoid(x), its derivative, and log(1 + exp(-|x|)), each with its full precision for any x.

    log(1 + e) is log(u) e / (u - 1) with u = 1 + e: right also where e is below the resolution of u.
    """
    e = tl.exp(-tl.abs(x))
    u = 1.0 + e
    is_tiny = u == 1.0
    log1p = tl.where(is_tiny, e, tl.log(u) * (e / tl.where(is_tiny, 1.0, u - 1.0)))
    return tl.where(x >= 0, 1.0, e) / u, e / (u * u), log1p


# B and N differ from run to run, B in an epoch's last step too: no kernel of its own for a multiple of 16, or for 1.
@triton.jit(do_not_specialize=["batch_size", "num_rows"])  # type: ignore[untyped-decorator]
def nvum_kernel(  # type: ignore[no-untyped-def]
    logits_ptr, teacher_ptr, targets_ptr, mask_ptr, index_ptr, perm_ptr, log_prior_ptr, previous_ptr,  # read
    current_ptr, touched_ptr, arrivals_ptr, partials_ptr, grad_ptr, sums_ptr, counts_ptr,  # written
    batch_size, num_rows, lam, decay, fresh_share, temperature, reg_weight, low, high, entry_share, term_share,
    NUM_OUTPUTS: tl.constexpr, ELEMENTWISE: tl.constexpr, MIXES: tl.constexpr, LAM_IS_POINTER: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Compute one tile of rows; the last program to finish adds up the sums of all."""
    program, num_programs = tl.program_id(0), tl.num_programs(0)
    row_B = program * BLOCK_B + tl.arange(0, BLOCK_B)
    col_C = tl.arange(0, BLOCK_C)
    in_batch_B = row_B < batch_size
    is_output_C = col_C < NUM_OUTPUTS
    inside_BC = in_batch_B[:, None] & is_output_C[None, :]
    entry_BC = row_B.to(tl.int64)[:, None] * NUM_OUTPUTS + col_C[None, :]

    # All loads come first, so that only those wait for one another whose address is a loaded index.
    index_B = tl.load(index_ptr + row_B, mask=in_batch_B, other=-1).to(tl.int64)
    if MIXES:
        perm_B = tl.load(perm_ptr + row_B, mask=in_batch_B, other=-1).to(tl.int64)
        share = tl.load(lam).to(tl.float32) if LAM_IS_POINTER else lam
    weight_BC = tl.load(mask_ptr + entry_BC, mask=inside_BC, other=0).to(tl.float32)
    logits_BC = tl.load(logits_ptr + entry_BC, mask=inside_BC, other=0.0).to(tl.float32)
    targets_BC = tl.load(targets_ptr + entry_BC, mask=inside_BC, other=0.0).to(tl.float32)
    teacher_BC = tl.load(teacher_ptr + entry_BC, mask=inside_BC, other=0.0).to(tl.float32)
    shift_C = temperature * tl.load(log_prior_ptr + col_C, mask=is_output_C, other=0.0).to(tl.float32)
    counts_B = (index_B >= 0) & (index_B < num_rows)
    own_BC = counts_B[:, None] & is_output_C[None, :]
    slot_BC = index_B[:, None] * NUM_OUTPUTS + col_C[None, :]
    old_BC = tl.load(previous_ptr + slot_BC, mask=own_BC, other=0.0)
    if MIXES:
        in_reach_B = (perm_B >= 0) & (perm_B < batch_size)
        index_B2 = tl.load(index_ptr + perm_B, mask=in_reach_B, other=-1).to(tl.int64)
        has_partner_B = (index_B2 >= 0) & (index_B2 < num_rows)
        partner_BC = has_partner_B[:, None] & is_output_C[None, :]
        entry_BC2 = perm_B[:, None] * NUM_OUTPUTS + col_C[None, :]
        slot_BC2 = index_B2[:, None] * NUM_OUTPUTS + col_C[None, :]
        teacher_BC2 = tl.load(teacher_ptr + entry_BC2, mask=partner_BC, other=0.0).to(tl.float32)
        old_BC2 = tl.load(previous_ptr + slot_BC2, mask=partner_BC, other=0.0)

    # Memory: the own row, and the partner's as its own program computes it.
    new_BC, is_fit_B = remembered_rows(old_BC, teacher_BC, shift_C, decay, fresh_share, own_BC)
    written_B = counts_B & is_fit_B
    q_BC = new_BC
    if MIXES:
        new_BC2, _ = remembered_rows(old_BC2, teacher_BC2, shift_C, decay, fresh_share, partner_BC)
        q_BC = tl.where(has_partner_B[:, None], share * new_BC + (1.0 - share) * new_BC2, new_BC)
    tl.store(current_ptr + slot_BC, new_BC, mask=written_B[:, None] & is_output_C[None, :])
    tl.store(touched_ptr + index_B, tl.full([BLOCK_B], 1, tl.uint8), mask=written_B)

    # Cross-entropy, from -log sigmoid(z) = log(1 + exp(-|z|)) - min(z, 0).
    counted_BC = (weight_BC != 0.0) & counts_B[:, None]
    z_BC = tl.where(counted_BC, logits_BC, 0.0)
    y_BC = tl.where(counted_BC, targets_BC, 0.0)
    p_BC, slope_BC, log1p_BC = sigmoid_and_kin(z_BC)
    bce_BC = (1.0 - y_BC) * z_BC - (tl.where(z_BC < 0, z_BC, 0.0) - log1p_BC)
    bce_BC = tl.where(counted_BC, weight_BC * bce_BC, 0.0)

    # Regulariser, from log(1 - sigmoid(x)) = -(max(x, 0) + log(1 + exp(-|x|))).
    clamped_BC = tl.where(p_BC < low, low, tl.where(p_BC > high, high, p_BC))
    slope_BC = tl.where((p_BC >= low) & (p_BC <= high), slope_BC, 0.0)
    x = tl.where(counted_BC, q_BC * clamped_BC, 0.0)
    is_term = counted_BC
    if not ELEMENTWISE:
        x = tl.sum(x, axis=1)
        is_term = counts_B
    pull, _, log1p = sigmoid_and_kin(x)
    terms = tl.where(is_term, -(tl.where(x > 0, x, 0.0) + log1p), 0.0)
    if not ELEMENTWISE:
        pull = pull[:, None]
    grad_BC = weight_BC * (p_BC - y_BC) * entry_share - (reg_weight * term_share) * (pull * q_BC * slope_BC)
    tl.store(grad_ptr + entry_BC, tl.where(counted_BC, grad_BC, 0.0), mask=inside_BC)

    # Sums of this program. An index beyond the memory is nobody's row: the loss says so by not being a number.
    bce = tl.sum(tl.sum(bce_BC, axis=1), axis=0)
    num_beyond = tl.sum((in_batch_B & (index_B >= num_rows)).to(tl.int32), axis=0)
    if ELEMENTWISE:
        terms = tl.sum(terms, axis=1)
    num_skipped = tl.sum((in_batch_B & (index_B < 0)).to(tl.int32), axis=0)
    num_nonfinite = tl.sum((counts_B & ~is_fit_B).to(tl.int32), axis=0)
    tl.store(partials_ptr + program, tl.where(num_beyond > 0, float("nan"), bce))
    tl.store(partials_ptr + num_programs + program, tl.sum(terms, axis=0))
    tl.store(partials_ptr + 2 * num_programs + program, num_skipped.to(tl.float32))
    tl.store(partials_ptr + 3 * num_programs + program, num_nonfinite.to(tl.float32))

    # Sums of all programs. The barrier puts all threads' stores before the one thread's release; .cg loads come from
    # the cache that all multiprocessors share.
    tl.debug_barrier()
    arrived = tl.atomic_add(arrivals_ptr, 1, sem="acq_rel", scope="gpu")
    if arrived == num_programs - 1:
        part_P = tl.arange(0, BLOCK_P)
        is_part_P = part_P < num_programs
        parts_ptr = partials_ptr + part_P
        bce_P = tl.load(parts_ptr, mask=is_part_P, other=0.0, cache_modifier=".cg")
        reg_P = tl.load(parts_ptr + num_programs, mask=is_part_P, other=0.0, cache_modifier=".cg")
        skipped_P = tl.load(parts_ptr + 2 * num_programs, mask=is_part_P, other=0.0, cache_modifier=".cg")
        nonfinite_P = tl.load(parts_ptr + 3 * num_programs, mask=is_part_P, other=0.0, cache_modifier=".cg")
        bce_mean = tl.sum(bce_P, axis=0) * entry_share
        reg_mean = tl.sum(reg_P, axis=0) * term_share
        tl.store(sums_ptr, bce_mean + reg_weight * reg_mean)
        tl.store(sums_ptr + 1, bce_mean)
        tl.store(sums_ptr + 2, reg_mean)
        tl.store(counts_ptr, tl.sum(skipped_P.to(tl.int64), axis=0))
        tl.store(counts_ptr + 1, tl.sum(nonfinite_P.to(tl.int64), axis=0))
        tl.store(arrivals_ptr, 0)


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
