"""What every loss returns, and plain binary cross-entropy.

Shapes in names: B rows of this rank's batch, C outputs.

A loss is a *sum* over this rank's unmasked entries divided by ``num_global * C``, where ``num_global`` counts the rows
of the step over all ranks. So the losses of the ranks add up to the loss of one process on the whole batch, also where
the tail of an epoch is uneven. (DDP averages gradients over ranks: multiply the loss by the world size there.)
"""

from typing import NamedTuple

import torch
from torch.nn.functional import binary_cross_entropy_with_logits


class LossParts(NamedTuple):
    """One step's loss and what it is made of: scalars that stay on the device of the logits until they are read."""

    loss: torch.Tensor
    """Scalar that carries the gradient: ``bce + reg_weight * reg``."""

    bce: torch.Tensor
    """Scalar, detached: sum of the unmasked cross-entropies over ``num_global * C``."""

    reg: torch.Tensor
    """Scalar, detached: the regulariser before its weight; 0 for a loss that has none."""

    num_rows_skipped: torch.Tensor
    """int64 scalar: rows with index -1; they carry no loss and write no memory."""

    num_rows_nonfinite: torch.Tensor
    """int64 scalar: other rows whose teacher logits were not all finite, so that their memory was not written."""


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


def bce_loss(
    logits_BC: torch.Tensor,
    targets_BC: torch.Tensor,
    mask_BC: torch.Tensor,
    index_B: torch.Tensor,
    *,
    num_global: int,
) -> LossParts:
    """Return masked binary cross-entropy, with a regulariser of 0.

    Args:
        logits_BC: student logits, any floating type; computed in float32 (float64 stays float64).
        targets_BC: labels in [0, 1].
        mask_BC: bool or 0/1; 0 marks an entry without a label.
        index_B: int64 `sample_index`; -1 marks a row that does not count.
        num_global: rows with index >= 0 of this step over all ranks; at least 1 is assumed.
    """
    with torch.autocast(logits_BC.device.type, enabled=False):
        counted_BC = counted_entries(mask_BC, index_B)
        bce = cross_entropy_sum(counted_logits(logits_BC, counted_BC), targets_BC, counted_BC)
        bce = bce / (max(num_global, 1) * logits_BC.shape[1])
        return LossParts(
            loss=bce,
            bce=bce.detach(),
            reg=torch.zeros_like(bce),
            num_rows_skipped=(index_B < 0).sum(),
            num_rows_nonfinite=torch.zeros_like(index_B[:1]).sum(),
        )
