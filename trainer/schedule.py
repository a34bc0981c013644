"""Learning rate as a pure function of the step: nothing to save, nothing to restore."""

from dataclasses import dataclass
from math import cos, pi
from typing import Literal

from manifests.errors import ConfigError
from trainer.options import refuse_unless

ScheduleName = Literal["cosine", "step", "constant"]


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate goes over a run."""

    name: ScheduleName = "cosine"
    """`cosine`: from the base rate down to `final_lr_fraction` of it; `step`: times `gamma` at each milestone; or
    `constant`."""

    warmup_epochs: float = 0.0
    """Epochs, or a fraction of one, over which the rate rises linearly to its base; before any of the three."""

    milestones: tuple[float, ...] = (0.7, 0.9)
    """Where `step` drops the rate, as fractions of the run."""

    gamma: float = 0.1
    """What `step` multiplies the rate by at a milestone."""

    final_lr_fraction: float = 0.0
    """Where `cosine` ends, as a fraction of the base rate."""

    def __post_init__(self) -> None:
        names = ("cosine", "step", "constant")
        refuse_unless(self.name in names, "schedule.name", self.name, ", ".join(names))
        refuse_unless(0 <= self.warmup_epochs < float("inf"), "schedule.warmup_epochs", self.warmup_epochs, "0 or more")
        ascending = all(a < b for a, b in zip(self.milestones, self.milestones[1:], strict=False))
        inside = all(0 < milestone < 1 for milestone in self.milestones)
        refuse_unless(
            ascending and inside,
            "schedule.milestones",
            self.milestones,
            "ascending fractions of the run, between 0 and 1",
        )
        refuse_unless(0 < self.gamma <= 1, "schedule.gamma", self.gamma, "above 0, at most 1")
        refuse_unless(
            0 <= self.final_lr_fraction <= 1,
            "schedule.final_lr_fraction",
            self.final_lr_fraction,
            "a number from 0 to 1",
        )


def learning_rate(step: int, total_steps: int, steps_per_epoch: int, config: ScheduleConfig, base_lr: float) -> float:
    """Return the learning rate of a step.

    Args:
        step: counts optimiser steps from 0.
        total_steps: steps of the whole run; a step at or after it gets the last rate.
        steps_per_epoch: converts `warmup_epochs`.
        config: the schedule.
        base_lr: rate that the warm-up rises to.

    Raises:
        ConfigError: the warm-up does not end before the run does.
    """
    num_warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    if num_warmup_steps and num_warmup_steps >= total_steps:
        raise ConfigError(
            f"schedule.warmup_epochs={config.warmup_epochs:g}: {num_warmup_steps} steps of warm-up, but the run has "
            f"{total_steps}; lower it or train for more epochs"
        )
    if step < num_warmup_steps:
        return base_lr * (step + 1) / num_warmup_steps
    match config.name:
        case "constant":
            return base_lr
        case "step":
            num_passed = sum(step >= round(milestone * total_steps) for milestone in config.milestones)
            return base_lr * config.gamma**num_passed
        case "cosine":
            progress = min((step - num_warmup_steps) / (total_steps - num_warmup_steps), 1.0)
            fraction = config.final_lr_fraction + (1 - config.final_lr_fraction) * (1 + cos(pi * progress)) / 2
            return base_lr * fraction
