"""What every loader yields."""

from typing import NamedTuple

import torch


class Batch(NamedTuple):
    """Images of one step on one rank, with the row of the pack's manifest that each came from."""

    images_B1HW: torch.Tensor
    """uint8 [B, 1, S, S] on the asked device; as packed, before augmentation and normalisation."""

    sample_index_B: torch.Tensor
    """int64 [B] on the same device; -1 marks a row that does not count: loss weight 0, no memory write."""
