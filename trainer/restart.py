"""New weights in the middle of a run, for losses whose memory outlives them."""

from collections.abc import Sequence

import torch
from torch import nn

from trainer.config import TrainConfig
from trainer.rng import stream_seed
from trainer.state import TrainState, new_student

RESTART_STREAM = 0x7265_7374
"""Keeps these draws apart from others of the same seed ("rest")."""


def begin_anew_(state: TrainState, config: TrainConfig, *, num_outputs: int) -> None:
    """Give student and teacher new first weights, and the optimiser averages of zero; the memory stays.

    The weights depend on the run's seed and the epoch alone, so ranks agree on them and a resumed run draws the same;
    those that `model.pretrained` names are loaded again. Everything is written where it lies: a compiled or captured
    network stays what it is. The cursor, the best epoch and the learning rate's schedule go on.
    """
    fresh = _drawn(config, num_outputs=num_outputs, epoch=state.cursor.epoch)
    replace_weights_(state.modules, state.optimiser, fresh)


@torch.no_grad()
def replace_weights_(modules: Sequence[nn.Module], optimiser: torch.optim.Optimizer, fresh: nn.Module) -> None:
    """Copy the weights of `fresh` into the modules, and set the optimiser's averages and counters to zero."""
    weights = fresh.state_dict()
    for module in modules:
        module.load_state_dict(weights)
    for averages in optimiser.state.values():
        for value in averages.values():
            if isinstance(value, torch.Tensor):
                value.zero_()


def _drawn(config: TrainConfig, *, num_outputs: int, epoch: int) -> nn.Module:
    """Return a new student on the CPU; the global generators stay as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(config.run.seed, epoch, RESTART_STREAM))
        return new_student(config, num_outputs=num_outputs, load_weights=True)
