"""The loss step of NVUM in plain PyTorch: memory, prior adjustment, memory mixup, cross-entropy, regulariser.

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

from dataclasses import dataclass
from math import isfinite
from typing import Literal, NamedTuple

import torch
from torch.nn.functional import logsigmoid

from manifests.label_spaces import PriorForm
from trainer.losses import LossParts, compute_dtype, counted_entries, counted_logits, cross_entropy_sum
from trainer.memory import NVUMMemory
from trainer.options import refuse_unless

Regulariser = Literal["elementwise", "inner_product"]

PRIOR_FLOOR = 1e-12
"""Added to a prior before its logarithm, as in the authors' code: a finding that never occurs stays finite."""


@dataclass(frozen=True, kw_only=True)
class NVUMConfig:
    """What the method can be told; the defaults are those of the authors' code."""

    regulariser: Regulariser = "elementwise"
    """`elementwise`: one value a finding (the authors' code); `inner_product`: one value a sample (the paper)."""

    reg_weight: float = 1.0
    """Weight of the regulariser (the paper's lambda); 0 leaves cross-entropy alone."""

    memory_decay: float = 0.9
    """Share of its old value that a memory row keeps at each visit (beta); in [0, 1)."""

    prior_temperature: float = 1.0
    """How much of the log prior is taken off the logits before they are remembered (tau); 0 switches it off."""

    prior_form: PriorForm = "authors"
    """`authors`: (1 - P(No Finding)) * P(finding); `plain`: P(finding)."""

    mixup: bool = True
    """Whether memory rows are mixed within the batch (memory only, never images)."""

    clamp: float = 1e-4
    """Probabilities in the regulariser lie in [clamp, 1 - clamp]."""

    def __post_init__(self) -> None:
        forms = ("elementwise", "inner_product")
        refuse_unless(self.regulariser in forms, "loss.regulariser", self.regulariser, " or ".join(forms))
        refuse_unless(
            isfinite(self.reg_weight) and self.reg_weight >= 0, "loss.reg_weight", self.reg_weight, "0 or more"
        )
        refuse_unless(0 <= self.memory_decay < 1, "loss.memory_decay", self.memory_decay, "at least 0, below 1")
        refuse_unless(
            isfinite(self.prior_temperature) and self.prior_temperature >= 0,
            "loss.prior_temperature",
            self.prior_temperature,
            "0 or more",
        )
        refuse_unless(self.prior_form in ("authors", "plain"), "loss.prior_form", self.prior_form, "authors or plain")
        refuse_unless(0 < self.clamp < 0.5, "loss.clamp", self.clamp, "above 0, below 0.5")


class MemoryRows(NamedTuple):
    """What the memory contributes to a step; no gradient flows through any of it."""

    new_BC: torch.Tensor
    """Rows after this step's update, in the loss's dtype; the old row where the teacher's logits are not finite."""

    q_BC: torch.Tensor
    """The same after memory mixup."""

    written_B: torch.Tensor
    """bool: rows that go back to the memory (index >= 0, teacher finite)."""


def log_prior(prior_C: torch.Tensor) -> torch.Tensor:
    """Return log(prior + 1e-12): finite also for a finding that the training rows never show."""
    return torch.log(prior_C + PRIOR_FLOOR)


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
    lam: float,
    config: NVUMConfig,
    num_global: int,
) -> LossParts:
    """Return the loss of a step, and write the batch's rows into the memory's current buffer.

    Everything is computed in float32 whatever the autocast type (float64 stays float64), nothing waits for the device,
    and running the step twice gives the same loss and the same memory.

    Args:
        logits_BC: student logits, any floating type.
        teacher_logits_BC: logits to remember: the EMA teacher's, or the student's own. A row with one that is not
            finite is not written and counted; it, and who mixes with it, use its old memory row.
        targets_BC: labels in [0, 1].
        mask_BC: bool or 0/1; 0 marks an entry without a label: no loss, gradient exactly 0.
        index_B: int64 `sample_index`, the row of the memory; -1 marks a row that does not count: no loss, no write,
            gradient exactly 0. An index occurs once in a batch.
        memory: rows of the whole pack; `previous` is read, `current` written.
        log_prior_C: see `log_prior`.
        perm_B: int64, the row of the batch that each row's memory mixes with; a partner that is skipped or out of the
            batch counts as none. None, or `config.mixup` off: no mixup.
        lam: share of the row's own memory, in [0, 1].
        config: the method's settings.
        num_global: rows with index >= 0 of this step over all ranks; at least 1 is assumed.
    """
    with torch.autocast(logits_BC.device.type, enabled=False):
        counted_BC = counted_entries(mask_BC, index_B)
        safe_logits_BC = counted_logits(logits_BC, counted_BC)
        rows = memory_rows(
            teacher_logits_BC,
            index_B,
            memory=memory,
            log_prior_C=log_prior_C,
            perm_B=perm_B if config.mixup else None,
            lam=lam,
            config=config,
        )
        memory.write(index_B, rows.new_BC, rows.written_B)

        num_rows = max(num_global, 1)
        num_entries = num_rows * logits_BC.shape[1]
        bce = cross_entropy_sum(safe_logits_BC, targets_BC, counted_BC) / num_entries
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
    lam: float,
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
    partner_B = perm_B.clamp(min=0, max=batch_size - 1)
    has_partner_B = (perm_B == partner_B) & counts_B[partner_B]
    mixed_BC = lam * new_BC + (1 - lam) * new_BC[partner_B]
    return MemoryRows(
        new_BC=new_BC, q_BC=torch.where(has_partner_B.unsqueeze(1), mixed_BC, new_BC), written_B=written_B
    )


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
