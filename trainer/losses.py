"""What every loss returns, which entries count, and the losses that look at one entry at a time.

Shapes in names: B rows of this rank's batch, C outputs.

A loss is a *sum* over this rank's unmasked entries divided by ``num_global * C``, where ``num_global`` counts the rows
of the step over all ranks. So the losses of the ranks add up to the loss of one process on the whole batch, also where
the tail of an epoch is uneven. (DDP averages gradients over ranks: multiply the loss by the world size there.)
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

EntryLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From logits and targets [B, C] to the loss of each entry [B, C]."""


class LossParts(NamedTuple):
    """One step's loss and what it is made of: scalars that stay on the device of the logits until they are read."""

    loss: torch.Tensor
    """Scalar that carries the gradient: what the method minimises."""

    bce: torch.Tensor
    """Scalar, detached: sum of the unmasked plain cross-entropies over ``num_global * C``, whatever the method."""

    reg: torch.Tensor
    """Scalar, detached: the regulariser before its weight; 0 for a loss that has none."""

    num_rows_skipped: torch.Tensor
    """int64 scalar: rows with index -1; they carry no loss and write no memory."""

    num_rows_nonfinite: torch.Tensor
    """int64 scalar: other rows whose teacher logits were not all finite, so that their memory was not written."""

    applied: torch.Tensor | None = None
    """bool scalar: whether the optimiser took the step; None: it did."""

    def plus(self, other: "LossParts") -> "LossParts":
        """Return the loss of this part of a batch and another one together."""
        return LossParts(
            loss=self.loss + other.loss,
            bce=self.bce + other.bce,
            reg=self.reg + other.reg,
            num_rows_skipped=self.num_rows_skipped + other.num_rows_skipped,
            num_rows_nonfinite=self.num_rows_nonfinite + other.num_rows_nonfinite,
        )


def compute_dtype(logits: torch.Tensor) -> torch.dtype:
    """Return the type that a loss computes in: float32 for float32 and below (bf16, fp16), float64 for float64."""
    return torch.promote_types(logits.dtype, torch.float32)


def counted_entries(mask_BC: torch.Tensor, index_B: torch.Tensor) -> torch.Tensor:
    """Return bool [B, C]: entries that carry loss, which are labelled and of a row that counts (index >= 0)."""
    return mask_BC.bool() & (index_B >= 0).unsqueeze(1)


def counted_logits(logits_BC: torch.Tensor, counted_BC: torch.Tensor) -> torch.Tensor:
    """Return the logits in the loss's dtype, 0 where they do not count.

    The zeros come before any arithmetic: masking afterwards would let a NaN of a skipped row through, since 0 * NaN is
    NaN in the backward pass.
    """
    logits_BC = logits_BC.to(compute_dtype(logits_BC))
    return torch.where(counted_BC, logits_BC, logits_BC.new_zeros(()))


def cross_entropy_sum(logits_BC: torch.Tensor, targets_BC: torch.Tensor, counted_BC: torch.Tensor) -> torch.Tensor:
    """Return the sum of the counted binary cross-entropies, stable for logits of any size."""
    bce_BC = binary_cross_entropy_with_logits(logits_BC, targets_BC.to(logits_BC.dtype), reduction="none")
    return torch.where(counted_BC, bce_BC, bce_BC.new_zeros(())).sum()


def entry_loss(
    entry: EntryLoss,
    logits_BC: torch.Tensor,
    targets_BC: torch.Tensor,
    mask_BC: torch.Tensor,
    index_B: torch.Tensor,
    *,
    num_global: int,
) -> LossParts:
    """Return a loss that is a sum over entries, with a regulariser of 0; `bce` is plain cross-entropy beside it.

    Args:
        entry: from logits and targets, both [B, C] in the loss's dtype, to the loss of each entry, finite for every
            finite logit. What it returns for an entry that does not count is thrown away.
        logits_BC: student logits, any floating type; computed in float32 (float64 stays float64).
        targets_BC: labels in [0, 1].
        mask_BC: bool or 0/1; 0 marks an entry without a label.
        index_B: int64 `sample_index`; -1 marks a row that does not count.
        num_global: rows with index >= 0 of this step over all ranks; at least 1 is assumed.
    """
    with torch.autocast(logits_BC.device.type, enabled=False):
        counted_BC = counted_entries(mask_BC, index_B)
        safe_BC = counted_logits(logits_BC, counted_BC)
        num_entries = max(num_global, 1) * logits_BC.shape[1]
        if entry is bce_entries:
            loss = bce = cross_entropy_sum(safe_BC, targets_BC, counted_BC) / num_entries
        else:
            loss_BC = entry(safe_BC, targets_BC.to(safe_BC.dtype))
            loss = torch.where(counted_BC, loss_BC, loss_BC.new_zeros(())).sum() / num_entries
            bce = cross_entropy_sum(safe_BC.detach(), targets_BC, counted_BC) / num_entries
        return LossParts(
            loss=loss,
            bce=bce.detach(),
            reg=torch.zeros_like(bce),
            num_rows_skipped=(index_B < 0).sum(),
            num_rows_nonfinite=torch.zeros_like(index_B[:1]).sum(),
        )


def bce_entries(logits_BC: torch.Tensor, targets_BC: torch.Tensor) -> torch.Tensor:
    """Return the binary cross-entropy of each entry."""
    return binary_cross_entropy_with_logits(logits_BC, targets_BC, reduction="none")


def bce_loss(
    logits_BC: torch.Tensor,
    targets_BC: torch.Tensor,
    mask_BC: torch.Tensor,
    index_B: torch.Tensor,
    *,
    num_global: int,
) -> LossParts:
    """Return masked binary cross-entropy; arguments as for `entry_loss`."""
    return entry_loss(bce_entries, logits_BC, targets_BC, mask_BC, index_B, num_global=num_global)
