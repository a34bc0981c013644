"""The loss step of NVUM with its gradient written down: few torch operations, on any device and in any type.

It serves CPUs, and what the kernel of `trainer.nvum_triton` does not take (float64). Equations: `trainer.nvum`. With
p = sigmoid(z), s = sigmoid(x), and x = q p (elementwise) or x = sum_c q p (inner product):

    d bce / dz = p - y          d log(1 - sigmoid(x)) / dz = -s q p (1 - p), and 0 where p is clamped
"""

from math import isfinite
from typing import Any, NamedTuple

import torch
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import logsigmoid

from trainer.losses import LossParts, compute_dtype, counted_entries
from trainer.nvum_config import NVUMInputs
from trainer.nvum_plain import entry_losses, memory_rows


def analytic_step(inputs: NVUMInputs) -> LossParts:
    """Return the loss of a step, and write the batch's rows into the memory's current buffer.

    On a CPU it looks first whether every entry counts, which is the usual case and saves the selections.
    """
    index_B = inputs.index_B
    with torch.no_grad(), torch.autocast(index_B.device.type, enabled=False):
        everything = everything_counts(inputs.mask_BC, index_B)
        full = rows_of_full_batch(inputs) if everything else None
        if full is not None:
            q_BC = full.q_BC
            inputs.memory.write(index_B, full.new_BC)
            num_rows_skipped = num_rows_nonfinite = index_B.new_zeros(())
        else:
            rows = memory_rows(
                inputs.teacher_logits_BC,
                index_B,
                memory=inputs.memory,
                log_prior_C=inputs.log_prior_C,
                perm_B=inputs.perm_B,
                lam=inputs.lam,
                config=inputs.config,
            )
            q_BC = rows.q_BC
            inputs.memory.write(index_B, rows.new_BC, rows.written_B)
            num_rows_skipped = (index_B < 0).sum()
            num_rows_nonfinite = ((index_B >= 0) & ~rows.written_B).sum()
        bce, reg, grad_BC = loss_and_gradient(inputs, q_BC, everything=everything)
        loss = torch.add(bce, reg, alpha=inputs.config.reg_weight)
    return LossParts(
        loss=with_gradient(loss, inputs.logits_BC, grad_BC),
        bce=bce,
        reg=reg,
        num_rows_skipped=num_rows_skipped,
        num_rows_nonfinite=num_rows_nonfinite,
    )


def everything_counts(mask_BC: torch.Tensor, index_B: torch.Tensor) -> bool:
    """Return whether all entries are known to count; False where asking would wait for a device or split a graph."""
    if index_B.device.type != "cpu" or torch.compiler.is_compiling() or not mask_BC.numel():
        return False
    smallest = (mask_BC.view(torch.uint8) if mask_BC.dtype == torch.bool else mask_BC).amin()  # `all` takes four times
    return int(index_B.amin()) >= 0 and float(smallest) > 0


class FullRows(NamedTuple):
    """The memory rows of a batch all of whose rows are written; see `MemoryRows`."""

    new_BC: torch.Tensor
    """Rows after this step's update."""

    q_BC: torch.Tensor
    """The same after memory mixup."""


def rows_of_full_batch(inputs: NVUMInputs) -> FullRows | None:
    """Return `memory_rows` of a batch on the CPU that counts throughout; None where a partner or a logit is unfit."""
    config, perm_B = inputs.config, inputs.perm_B
    if perm_B is not None:
        low, high = torch.aminmax(perm_B)
        if int(low) < 0 or int(high) >= len(perm_B):
            return None
    teacher_BC = inputs.teacher_logits_BC.to(compute_dtype(inputs.teacher_logits_BC))
    old_BC = inputs.memory.previous_NC.index_select(0, inputs.index_B).to(teacher_BC.dtype)
    fresh_share = 1 - config.memory_decay
    # One rounding an operation, as in `memory_rows`: with lerp, or an alpha, a row's bits would depend on its place in
    # the batch (vector lanes fuse multiply and add, the rest does not), so that replicas of ranks were not one memory.
    adjusted_BC = teacher_BC - config.prior_temperature * inputs.log_prior_C.to(teacher_BC)
    new_BC = old_BC.mul_(config.memory_decay).add_(adjusted_BC.mul_(fresh_share))
    if not isfinite(float(new_BC.sum())):  # a sum is finite only where all its terms are
        return None
    q_BC = new_BC if perm_B is None else torch.lerp(new_BC.index_select(0, perm_B), new_BC, float(inputs.lam))
    return FullRows(new_BC=new_BC, q_BC=q_BC)


def loss_and_gradient(
    inputs: NVUMInputs, q_BC: torch.Tensor, *, everything: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return cross-entropy, regulariser (scalars), and the loss's gradient with respect to the logits [B, C]."""
    config, clamp = inputs.config, inputs.config.clamp
    counted_BC = None if everything else counted_entries(inputs.mask_BC, inputs.index_B)

    def counted(values_BC: torch.Tensor) -> torch.Tensor:
        return values_BC if counted_BC is None else torch.where(counted_BC, values_BC, values_BC.new_zeros(()))

    logits_BC = counted(inputs.logits_BC.detach().to(compute_dtype(inputs.logits_BC)))
    targets_BC = counted(inputs.targets_BC.to(logits_BC.dtype))
    num_entries = max(inputs.num_global, 1) * logits_BC.shape[1]
    bce = counted(entry_losses(logits_BC, targets_BC, inputs.mask_BC)).sum() / num_entries
    probs_BC = torch.sigmoid(logits_BC)
    grad_BC = probs_BC - targets_BC
    if inputs.mask_BC.is_floating_point():
        grad_BC *= inputs.mask_BC
    grad_BC *= inputs.entry_share

    product_BC = counted(q_BC * probs_BC.clamp(clamp, 1 - clamp))
    if config.regulariser == "elementwise":
        terms = counted(logsigmoid(-product_BC))
        pull_BC = torch.sigmoid(product_BC).mul_(q_BC)
    else:
        product_B = product_BC.sum(dim=1)
        terms = logsigmoid(-product_B)
        if not everything:
            terms = torch.where(inputs.index_B >= 0, terms, terms.new_zeros(()))
        pull_BC = torch.sigmoid(product_B).unsqueeze(1) * q_BC
    reg = terms.sum() * inputs.term_share
    if config.reg_weight:
        pull_BC = torch.ops.aten.sigmoid_backward.default(pull_BC, probs_BC)  # pull * p * (1 - p)
        pull_BC = torch.ops.aten.hardtanh_backward.default(pull_BC, probs_BC, clamp, 1 - clamp)  # 0 where clamped
        grad_BC.sub_(pull_BC, alpha=config.reg_weight * inputs.term_share)
    return bce, reg, counted(grad_BC)


def with_gradient(loss: torch.Tensor, logits_BC: torch.Tensor, grad_BC: torch.Tensor) -> torch.Tensor:
    """Return `loss` as a function of the logits, whose gradient is known already.

    Args:
        loss: scalar without a graph.
        logits_BC: what it was computed from; its gradient comes in its dtype.
        grad_BC: d loss / d logits, in the dtype that the loss was computed in: it is scaled by what arrives in the
            backward pass (a `GradScaler`'s factor, for example) before it is rounded.
    """
    result: torch.Tensor = _KnownGradient.apply(logits_BC, loss, grad_BC)  # type: ignore[no-untyped-call]
    return result


class _KnownGradient(torch.autograd.Function):
    """A scalar whose gradient was computed together with it."""

    @staticmethod
    def forward(ctx: FunctionCtx, logits_BC: torch.Tensor, loss: torch.Tensor, grad_BC: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(grad_BC)
        ctx.dtype = logits_BC.dtype  # type: ignore[attr-defined]
        return loss.view_as(loss)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (grad_BC,) = ctx.saved_tensors
        return (grad_BC * grad_loss).to(ctx.dtype), None, None
