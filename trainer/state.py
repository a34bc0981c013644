"""All that changes while a run trains, and its way into a checkpoint and back."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from trainer.checkpoint import Checkpoint
from trainer.config import TrainConfig
from trainer.ema import EMATeacher
from trainer.memory import NVUMMemory
from trainer.models.registry import build_model
from trainer.models.weights import load_pretrained
from trainer.optim import build_optimiser
from trainer.precision import gradient_scaler, resolve_precision
from trainer.rng import generator_state, restore_generators
from trainer.sums import LossSums


@dataclass(kw_only=True)
class Cursor:
    """Where the training stands."""

    epoch: int = 0
    """The epoch that is under way, from 0; equal to the number of epochs when the run is done."""

    consumed: int = 0
    """Samples of that epoch that are done, over all ranks."""

    step: int = 0
    """Optimiser steps done in the whole run."""


@dataclass(kw_only=True)
class Best:
    """The epoch that `best.pt` holds."""

    epoch: int = -1
    """-1: none yet."""

    valid_mean_auroc: float | None = None
    """None: there was nothing to measure, and the last epoch counts as the best."""


@dataclass(kw_only=True)
class TrainState:
    """Student, teacher, optimiser, memory, and how far they are."""

    student: nn.Module
    """What the optimiser changes."""

    teacher: EMATeacher | None
    """What follows it, where there is one."""

    optimiser: torch.optim.Optimizer
    """With its averages."""

    scaler: torch.amp.GradScaler
    """For fp16; a pass-through otherwise."""

    memory: NVUMMemory | None
    """Of the loss nvum."""

    epoch_sums: LossSums
    """Loss since the epoch began."""

    window_sums: LossSums
    """Loss since the last `train` event."""

    cursor: Cursor = field(default_factory=Cursor)
    """How far the training is."""

    best: Best = field(default_factory=Best)
    """The best epoch so far."""

    elapsed_s: float = 0.0
    """Seconds of training before this process took over."""

    @property
    def evaluated(self) -> nn.Module:
        """The module that is validated and evaluated: the teacher where there is one."""
        return self.student if self.teacher is None else self.teacher.module

    def weights(self) -> Checkpoint:
        """Return the part of a checkpoint that evaluation needs."""
        return {
            "student": self.student.state_dict(),
            "teacher": None if self.teacher is None else self.teacher.state_dict(),
            "cursor": asdict(self.cursor),
            "best": asdict(self.best),
        }

    def checkpoint(self) -> Checkpoint:
        """Return everything that the run needs to go on; shares tensors with the state, so write it before a step."""
        return self.weights() | {
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "memory": None if self.memory is None else self.memory.state_dict(),
            "epoch_sums": self.epoch_sums.state_dict(),
            "window_sums": self.window_sums.state_dict(),
            "generators": generator_state(),
            "elapsed_s": self.elapsed_s,
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of a run with the same configuration and identities."""
        self.student.load_state_dict(checkpoint["student"])
        if self.teacher is not None:
            self.teacher.load_state_dict(checkpoint["teacher"])
        self.optimiser.load_state_dict(self._computed_here(checkpoint["optimiser"]))
        self.scaler.load_state_dict(checkpoint["scaler"])
        if self.memory is not None:
            self.memory.load_state_dict(checkpoint["memory"])
        self.epoch_sums.load_state_dict(checkpoint["epoch_sums"])
        self.window_sums.load_state_dict(checkpoint["window_sums"])
        self.cursor = Cursor(**checkpoint["cursor"])
        self.best = Best(**checkpoint["best"])
        self.elapsed_s = checkpoint["elapsed_s"]
        restore_generators(checkpoint["generators"])

    def _computed_here(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return an optimiser's state that computes as this one does: fused or foreach goes with the device.

        Those of the checkpoint would take their place, and fused on a GPU what a CPU wrote (or the other way round)
        does not go together with the scaler.
        """
        own = self.optimiser.param_groups
        kept = ({key: group[key] for key in ("fused", "foreach")} for group in own)
        return state | {"param_groups": [a | b for a, b in zip(state["param_groups"], kept, strict=True)]}


def new_state(
    config: TrainConfig, *, num_rows: int, num_outputs: int, device: torch.device, load_weights: bool
) -> TrainState:
    """Return the state of a run that has not begun; random weights come from the global generators.

    Args:
        config: with `model.input_size_px` settled.
        num_rows: N, rows of the pack.
        num_outputs: C, outputs of the label space.
        device: where everything lies.
        load_weights: whether to read `model.pretrained`; a checkpoint makes that needless.
    """
    student = build_model(config.model.name, num_outputs, input_size_px=config.model.input_size_px)
    if load_weights and config.model.pretrained is not None:
        load_pretrained(student, config.model.name, config.model.pretrained)
    student.to(device)
    has_memory = config.loss.name == "nvum"
    return TrainState(
        student=student,
        teacher=EMATeacher(student, config.ema.decay) if config.has_teacher else None,
        optimiser=build_optimiser(student.parameters(), config.optim),
        scaler=gradient_scaler(resolve_precision(config.step.precision, device), device),
        memory=NVUMMemory(num_rows, num_outputs, device) if has_memory else None,
        epoch_sums=LossSums(device),
        window_sums=LossSums(device),
    )
