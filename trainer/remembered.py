"""What a memory says of each training image: its rows as probabilities of the findings.

====== ============================================================================================================
nvum   the running average of the teacher's logits z - tau log(prior): sigmoid(row / (1 - beta^k) + tau log(prior)),
       k being the epochs that are in it (it began at 0), and the prior being put back
elr    averages of p and of 1 - p, both begun at 0: the first's share of both
relay  the mean over all generations of their averages of the teacher's logits, each / (1 - decay^k)
====== ============================================================================================================

Such an average over the epochs of training is an ensemble, and early epochs, in which little was learned by heart, are
in it. Shapes in names: N rows of the pack, C outputs, D columns of the memory.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from trainer.config import TrainConfig
from trainer.nvum import log_prior
from trainer.relay import generation_of


class Memory(NamedTuple):
    """Rows of a memory at an epoch's end, and what is needed to read them."""

    rows_ND: torch.Tensor
    """float32, `NVUMMemory.previous_NC` on the CPU."""

    prior_C: npt.NDArray[np.float64]
    """Class prior that the loss used."""

    num_epochs: int
    """Epochs that are in it."""

    config: TrainConfig
    """Of the run."""


def remembered_probs(memory: Memory) -> torch.Tensor:
    """Return float32 [N, C]: how likely the memory takes each finding of each row to be; NaN where it was not written.

    Raises:
        KeyError: the loss has no memory.
    """
    probs_NC = _READERS[memory.config.loss.name](memory)
    was_written_N1 = (memory.rows_ND != 0).any(dim=1, keepdim=True)
    return torch.where(was_written_N1, probs_NC, torch.nan).float()


def _nvum(memory: Memory) -> torch.Tensor:
    loss = memory.config.loss
    log_prior_C = log_prior(torch.from_numpy(memory.prior_C)).float()
    mean_NC = memory.rows_ND / (1 - loss.memory_decay**memory.num_epochs)
    return torch.sigmoid(mean_NC + loss.prior_temperature * log_prior_C)


def _elr(memory: Memory) -> torch.Tensor:
    present_NC, absent_NC = memory.rows_ND.chunk(2, dim=1)
    return present_NC / (present_NC + absent_NC)


def _relay(memory: Memory) -> torch.Tensor:
    config, last = memory.config, memory.num_epochs - 1
    generation = generation_of(last, config.run.epochs, config.loss)
    before_NC, running_NC = memory.rows_ND.chunk(2, dim=1)
    now_NC = running_NC / (1 - config.loss.relay_decay ** (memory.num_epochs - generation.first_epoch))
    return torch.sigmoid(before_NC + (now_NC - before_NC) / (generation.number + 1))


_READERS: dict[str, Callable[[Memory], torch.Tensor]] = {"nvum": _nvum, "elr": _elr, "relay": _relay}
"""Loss with a memory -> how its rows are read."""
