"""All that changes while a run trains, and its way into a checkpoint and back.

Writing a checkpoint changes nothing in a run of several processes, so that a run which was stopped has the bits of one
that was not. What adds up exactly, the memory, is merged where it is. Of what would be rounded (running statistics,
sums of losses), and of random generators, the checkpoint holds what ranks have in common, for any number of processes,
and each rank's own beside it, for the same number.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from trainer.checkpoint import Checkpoint
from trainer.config import TrainConfig
from trainer.distributed import Ranks
from trainer.ema import EMATeacher
from trainer.memory import NVUMMemory
from trainer.memory_merge import leave_marks_to_first_, merge_memory_
from trainer.methods import METHODS
from trainer.models.registry import build_model
from trainer.models.weights import load_pretrained
from trainer.optim import build_optimiser
from trainer.precision import gradient_scaler, resolve_precision
from trainer.replicas import mean_statistics, synchronise_batchnorm_
from trainer.rng import generator_state, restore_generators, seed_generators, stream_seed
from trainer.sums import LossSums, merged_sums


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
    """Of losses that have one."""

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

    @property
    def modules(self) -> list[nn.Module]:
        """Student, and teacher where there is one."""
        return [self.student] if self.teacher is None else [self.student, self.teacher.module]

    def weights(self, ranks: Ranks) -> Checkpoint:
        """Return the part of a checkpoint that evaluation needs; every rank calls this."""
        student, *teacher = [module.state_dict() for module in self.modules]
        for weights, means in zip([student, *teacher], mean_statistics(self.modules, ranks), strict=True):
            weights.update((name, value) for name, value in means.items() if name in weights)
        return {
            "student": student,
            "teacher": teacher[0] if teacher else None,
            "cursor": asdict(self.cursor),
            "best": asdict(self.best),
        }

    def checkpoint(self, ranks: Ranks) -> Checkpoint:
        """Return everything that the run needs to go on; every rank calls this, and what rank 0 has is what counts.

        It shares tensors with the state, so write it before a step.
        """
        if self.memory is not None:
            merge_memory_(self.memory, ranks)
            leave_marks_to_first_(self.memory, ranks)
        weights = self.weights(ranks)
        parts = ranks.gather_first(self._of_this_rank(keeps_statistics=not ranks.is_alone))
        if not ranks.is_first:
            return weights
        return weights | {
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "memory": None if self.memory is None else self.memory.state_dict(),
            "epoch_sums": merged_sums([part["epoch_sums"] for part in parts]),
            "window_sums": merged_sums([part["window_sums"] for part in parts]),
            "generators": parts[0]["generators"],
            "ranks": [] if ranks.is_alone else parts,
            "elapsed_s": self.elapsed_s,
        }

    def restore(self, checkpoint: Checkpoint, ranks: Ranks) -> None:
        """Go on from a checkpoint of a run with the same configuration and identities, of any number of processes."""
        self.student.load_state_dict(checkpoint["student"])
        if self.teacher is not None:
            self.teacher.load_state_dict(checkpoint["teacher"])
        self.optimiser.load_state_dict(self._computed_here(checkpoint["optimiser"]))
        self.scaler.load_state_dict(checkpoint["scaler"])
        if self.memory is not None:
            self.memory.load_state_dict(checkpoint["memory"])
            leave_marks_to_first_(self.memory, ranks)
        self.cursor = Cursor(**checkpoint["cursor"])
        self.best = Best(**checkpoint["best"])
        self.elapsed_s = checkpoint["elapsed_s"]
        self._restore_this_rank(checkpoint, ranks)

    def _of_this_rank(self, *, keeps_statistics: bool) -> dict[str, Any]:
        """Return what the other ranks have otherwise, on the CPU."""
        statistics = [
            {name: value.cpu() for name, value in module.named_buffers()} if keeps_statistics else {}
            for module in self.modules
        ]
        sums = {"epoch_sums": self.epoch_sums.state_dict(), "window_sums": self.window_sums.state_dict()}
        return {"generators": generator_state(), "statistics": statistics} | sums

    @torch.no_grad()
    def _restore_this_rank(self, checkpoint: Checkpoint, ranks: Ranks) -> None:
        """Take up this rank's own part; with another number of processes, its share of what they had in common."""
        parts = checkpoint.get("ranks", [])  # checkpoints of version 0.1 have none: one process wrote them
        if max(len(parts), 1) == ranks.world_size:
            own = parts[ranks.rank] if parts else checkpoint
            restore_generators(own["generators"])
            for module, statistics in zip(self.modules, own.get("statistics", ()), strict=bool(parts)):
                for name, value in module.named_buffers():
                    value.copy_(statistics[name])
        else:
            own = checkpoint
            seed_generators(stream_seed(torch.initial_seed(), ranks.rank, ranks.world_size, self.cursor.step))
        if own is not checkpoint or ranks.is_first:
            self.epoch_sums.load_state_dict(own["epoch_sums"])
            self.window_sums.load_state_dict(own["window_sums"])
        else:
            self.epoch_sums.count_only(own["epoch_sums"])
            self.window_sums.count_only(own["window_sums"])

    def _computed_here(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return an optimiser's state that computes as this one does: fused or foreach goes with the device.

        Those of the checkpoint would take their place, and fused on a GPU what a CPU wrote (or the other way round)
        does not go together with the scaler.
        """
        own = self.optimiser.param_groups
        kept = ({key: group[key] for key in ("fused", "foreach")} for group in own)
        return state | {"param_groups": [a | b for a, b in zip(state["param_groups"], kept, strict=True)]}


def new_state(
    config: TrainConfig, *, num_rows: int, num_outputs: int, device: torch.device, load_weights: bool, ranks: Ranks
) -> TrainState:
    """Return the state of a run that has not begun; random weights come from the global generators.

    Ranks that were seeded alike have the same weights.

    Args:
        config: with `model.input_size_px` settled.
        num_rows: N, rows of the pack.
        num_outputs: C, outputs of the label space.
        device: where everything lies.
        load_weights: whether to read `model.pretrained`; a checkpoint makes that needless.
        ranks: the processes of the run.
    """
    student = new_student(config, num_outputs=num_outputs, load_weights=load_weights).to(device)
    columns = METHODS[config.loss.name].memory_columns
    state = TrainState(
        student=student,
        teacher=EMATeacher(student, config.ema.decay) if config.has_teacher else None,
        optimiser=build_optimiser(student.parameters(), config.optim),
        scaler=gradient_scaler(resolve_precision(config.step.precision, device), device),
        memory=NVUMMemory(num_rows, columns * num_outputs, device) if columns else None,
        epoch_sums=LossSums(device),
        window_sums=LossSums(device),
    )
    if config.step.sync_batchnorm and not ranks.is_alone:
        for module in state.modules:
            synchronise_batchnorm_(module, ranks)
    return state


def new_student(config: TrainConfig, *, num_outputs: int, load_weights: bool) -> nn.Module:
    """Return a network on the CPU with its first weights: random ones, or those that `model.pretrained` names."""
    model = config.model
    student = build_model(
        model.name,
        num_outputs,
        input_size_px=model.input_size_px,
        channels_last=model.channels_last,
        recompute=model.recompute,
    )
    if load_weights and model.pretrained is not None:
        load_pretrained(student, model.name, model.pretrained, input_size_px=model.input_size_px)
    return student
