"""The loss step of NVUM as its equations say it, differentiated by autograd: the oracle of the faster ones.

Held by golden values that were derived without it (`tools/make_golden_nvum.py`). Equations and shapes: `trainer.nvum`.
"""

from typing import NamedTuple

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from trainer.losses import LossParts, compute_dtype, counted_entries, counted_logits
from trainer.memory import NVUMMemory
from trainer.nvum_config import NVUMConfig, NVUMInputs


class MemoryRows(NamedTuple):
    """What the memory contributes to a step; no gradient flows through any of it."""

    new_BC: torch.Tensor
    """Rows after this step's update, in the loss's dtype; the old row where the teacher's logits are not finite."""

    q_BC: torch.Tensor
    """The same after memory mixup."""

    written_B: torch.Tensor
    """bool: rows that go back to the memory (index >= 0, teacher finite)."""


def plain_step(inputs: NVUMInputs) -> LossParts:
    """Return the loss of a step, and write the batch's rows into the memory's current buffer."""
    logits_BC, index_B, config = inputs.logits_BC, inputs.index_B, inputs.config
    with torch.autocast(logits_BC.device.type, enabled=False):
        counted_BC = counted_entries(inputs.mask_BC, index_B)
        safe_logits_BC = counted_logits(logits_BC, counted_BC)
        rows = memory_rows(
            inputs.teacher_logits_BC,
            index_B,
            memory=inputs.memory,
            log_prior_C=inputs.log_prior_C,
            perm_B=inputs.perm_B,
            lam=inputs.lam,
            config=config,
        )
        inputs.memory.write(index_B, rows.new_BC, rows.written_B)

        bce_BC = entry_losses(safe_logits_BC, inputs.targets_BC, inputs.mask_BC)
        num_rows = max(inputs.num_global, 1)
        num_entries = num_rows * logits_BC.shape[1]
        bce = torch.where(counted_BC, bce_BC, bce_BC.new_zeros(())).sum() / num_entries
        reg = regulariser_terms(rows.q_BC, safe_logits_BC, counted_BC, index_B >= 0, config).sum()
        reg = reg / (num_entries if config.regulariser == "elementwise" else num_rows)
        return LossParts(
            loss=bce + config.reg_weight * reg,
            bce=bce.detach(),
            reg=reg.detach(),
            num_rows_skipped=(index_B < 0).sum(),
            num_rows_nonfinite=((index_B >= 0) & ~rows.written_B).sum(),
        )


@torch.no_grad()
def memory_rows(
    teacher_logits_BC: torch.Tensor,
    index_B: torch.Tensor,
    *,
    memory: NVUMMemory,
    log_prior_C: torch.Tensor,
    perm_B: torch.Tensor | None,
    lam: float | torch.Tensor,
    config: NVUMConfig,
) -> MemoryRows:
    """Return the updated memory rows of a batch and their mixture; writes nothing. Arguments as in `nvum_step`."""
    teacher_logits_BC = teacher_logits_BC.to(compute_dtype(teacher_logits_BC))
    old_BC = memory.read(index_B).to(teacher_logits_BC.dtype)
    adjusted_BC = teacher_logits_BC - config.prior_temperature * log_prior_C.to(teacher_logits_BC)
    updated_BC = config.memory_decay * old_BC + (1 - config.memory_decay) * adjusted_BC
    counts_B = index_B >= 0
    written_B = counts_B & updated_BC.isfinite().all(dim=1)
    new_BC = torch.where(written_B.unsqueeze(1), updated_BC, old_BC)
    if perm_B is None:
        return MemoryRows(new_BC=new_BC, q_BC=new_BC, written_B=written_B)

    batch_size = index_B.shape[0]
    if not batch_size:
        return MemoryRows(new_BC=new_BC, q_BC=new_BC, written_B=written_B)
    partner_B = perm_B.clamp(min=0, max=batch_size - 1)
    has_partner_B = (perm_B == partner_B) & counts_B[partner_B]
    mixed_BC = lam * new_BC + (1 - lam) * new_BC[partner_B]
    return MemoryRows(
        new_BC=new_BC, q_BC=torch.where(has_partner_B.unsqueeze(1), mixed_BC, new_BC), written_B=written_B
    )


def entry_losses(logits_BC: torch.Tensor, targets_BC: torch.Tensor, mask_BC: torch.Tensor) -> torch.Tensor:
    """Return [B, C]: the binary cross-entropy of each entry, times its weight where the mask holds weights."""
    bce_BC = binary_cross_entropy_with_logits(logits_BC, targets_BC.to(logits_BC.dtype), reduction="none")
    return bce_BC * mask_BC.to(bce_BC.dtype) if mask_BC.is_floating_point() else bce_BC


def regulariser_terms(
    q_BC: torch.Tensor, logits_BC: torch.Tensor, counted_BC: torch.Tensor, counts_B: torch.Tensor, config: NVUMConfig
) -> torch.Tensor:
    """Return the regulariser before its sum: [B, C] elementwise, [B] for the inner product; 0 where nothing counts.

    log(1 - sigmoid(x)) is computed as logsigmoid(-x), which is finite for every finite x. A row that counts but has no
    labelled entry adds log(1/2) to the inner product's sum: a constant, without gradient.
    """
    probs_BC = torch.sigmoid(logits_BC).clamp(config.clamp, 1 - config.clamp)
    zero = q_BC.new_zeros(())
    product_BC = torch.where(counted_BC, q_BC * probs_BC, zero)
    if config.regulariser == "elementwise":
        return torch.where(counted_BC, logsigmoid(-product_BC), zero)
    return torch.where(counts_B, logsigmoid(-product_BC.sum(dim=1)), zero)
