"""Early-learning regularisation for several findings: predictions are held near their own running average.

Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels", NeurIPS 2020. The paper
has one label out of many; here each finding is its case of two classes, present and absent:

    p     = clamp(sigmoid(z), 1e-4, 1 - 1e-4)
    t_1  <- elr_decay * t_1 + (1 - elr_decay) * p              (the memory; no gradient flows through it)
    t_0  <- elr_decay * t_0 + (1 - elr_decay) * (1 - p)
    reg   = sum_bc mask_bc * log(1 - (t_1 p + t_0 (1 - p))) / (n * C)
    loss  = sum_bc mask_bc * bce_bc / (n * C) + elr_weight * reg

As in the authors' code the regulariser reads the average after this step's update, and both averages start at zero.
They lie side by side in one memory of 2 C columns: t_1 of all findings, then t_0. The clamp is that of their code.

With `elr_form=present` the regulariser is that of "present" alone, log(1 - t_1 p): of rare findings t_0 (1 - p) is near
1 for nearly every image, and its logarithm then outweighs all else.

Shapes in names: B rows of this rank's batch, C outputs, D = 2 C columns of the memory.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

import torch

from trainer.losses import LossParts, counted_entries, counted_logits, cross_entropy_sum
from trainer.memory import NVUMMemory
from trainer.options import refuse_unless

CLAMP = 1e-4
"""Probabilities lie in [CLAMP, 1 - CLAMP]: the logarithm stays finite."""


@dataclass(frozen=True, kw_only=True)
class ELRConfig:
    """What the method can be told; the defaults are the authors' for CIFAR-10."""

    elr_weight: float = 3.0
    """Weight of elr's regulariser."""

    elr_decay: float = 0.7
    """Share of its old value that a running average of elr keeps at each visit; in [0, 1)."""

    elr_form: Literal["both", "present"] = "both"
    """`both`: present and absent are elr's two classes; `present`: only present is held near its average."""

    def __post_init__(self) -> None:
        weight, decay = self.elr_weight, self.elr_decay
        refuse_unless(self.elr_form in ("both", "present"), "loss.elr_form", self.elr_form, "both or present")
        refuse_unless(isfinite(weight) and weight >= 0, "loss.elr_weight", weight, "0 or more")
        refuse_unless(0 <= decay < 1, "loss.elr_decay", decay, "at least 0, below 1")


def elr_step(
    logits_BC: torch.Tensor,
    targets_BC: torch.Tensor,
    mask_BC: torch.Tensor,
    index_B: torch.Tensor,
    *,
    memory: NVUMMemory,
    config: ELRConfig,
    num_global: int,
) -> LossParts:
    """Return the loss of a step, and write the batch's running averages into the memory's current buffer.

    Args:
        logits_BC: student logits, any floating type; computed in float32 (float64 stays float64). A row with one that
            is not finite is not written and counted; what of it carries loss uses its old averages.
        targets_BC: labels in [0, 1].
        mask_BC: bool or 0/1; 0 marks an entry without a label: no loss, gradient exactly 0.
        index_B: int64 `sample_index`, the row of the memory; -1 marks a row that does not count.
        memory: 2 C columns; `previous` is read, `current` written, so that a step that runs twice writes the same.
        config: the method's settings.
        num_global: rows with index >= 0 of this step over all ranks; at least 1 is assumed.
    """
    with torch.autocast(logits_BC.device.type, enabled=False):
        counted_BC = counted_entries(mask_BC, index_B)
        safe_BC = counted_logits(logits_BC, counted_BC)
        averages_BD, written_B = _updated(logits_BC.detach().to(safe_BC.dtype), index_B, memory, config)
        memory.write(index_B, averages_BD, written_B)

        present_BC, absent_BC = averages_BD.chunk(2, dim=1)
        probs_BC = torch.sigmoid(safe_BC).clamp(CLAMP, 1 - CLAMP)
        agreement_BC = present_BC * probs_BC
        if config.elr_form == "both":
            agreement_BC = agreement_BC + absent_BC * (1 - probs_BC)
        reg_BC = torch.log1p(-agreement_BC)
        num_entries = max(num_global, 1) * logits_BC.shape[1]
        reg = torch.where(counted_BC, reg_BC, reg_BC.new_zeros(())).sum() / num_entries
        bce = cross_entropy_sum(safe_BC, targets_BC, counted_BC) / num_entries
        return LossParts(
            loss=bce + config.elr_weight * reg,
            bce=bce.detach(),
            reg=reg.detach(),
            num_rows_skipped=(index_B < 0).sum(),
            num_rows_nonfinite=((index_B >= 0) & ~written_B).sum(),
        )


@torch.no_grad()
def _updated(
    logits_BC: torch.Tensor, index_B: torch.Tensor, memory: NVUMMemory, config: ELRConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the running averages [B, D] after this visit, and which of them are written (bool [B])."""
    old_BD = memory.read(index_B).to(logits_BC.dtype)
    probs_BC = torch.sigmoid(logits_BC).clamp(CLAMP, 1 - CLAMP)
    new_BD = config.elr_decay * old_BD + (1 - config.elr_decay) * torch.cat([probs_BC, 1 - probs_BC], dim=1)
    written_B = (index_B >= 0) & logits_BC.isfinite().all(dim=1)
    return torch.where(written_B.unsqueeze(1), new_BD, old_BD), written_B
