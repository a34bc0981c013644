"""What the study compares, and from where the settings of its trials are drawn.

Every method is drawn weight decay, dropout and, where it is evaluated by an EMA teacher, that one's decay; a method
with settings of its own is drawn these as well, from the same number of trials. Trial t has the same weight decay,
dropout and EMA decay for all methods: differences between methods are then not those of their draws.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from trainer.methods import LossName

Value = float | str | bool


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """A number between two others; its logarithm is uniform where `log` holds."""

    low: float
    """Smallest."""

    high: float
    """Largest."""

    log: bool = False
    """Whether each order of magnitude is as probable as another."""

    def at(self, quantile: float) -> Value:
        """Return the value at a quantile in [0, 1)."""
        if self.log:
            return float(self.low * (self.high / self.low) ** quantile)
        return float(self.low + (self.high - self.low) * quantile)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of a few values, each as probable as another."""

    values: tuple[Value, ...]
    """Which."""

    def at(self, quantile: float) -> Value:
        """Return the value at a quantile in [0, 1)."""
        return self.values[int(quantile * len(self.values))]


Space = Mapping[str, Uniform | Choice]
"""Name of a setting -> where it is drawn from."""

SHARED: Space = {
    "weight_decay": Uniform(low=0.01, high=3.0, log=True),
    "dropout": Uniform(low=0.0, high=0.6),
}
"""Drawn for every method: AdamW's weight decay (at a learning rate of 1e-3), dropout after both hidden layers."""

EMA_LAG: Space = {"ema_lag": Uniform(low=0.001, high=0.1, log=True)}
"""1 - the EMA teacher's decay: from a tenth of an epoch to 16 epochs of steps."""


ASSUMED: Space = {
    "relay_ppv": Uniform(low=0.15, high=0.95),
    "relay_sensitivity": Uniform(low=0.15, high=0.95),
}
"""What relay takes the labels to be worth."""


@dataclass(frozen=True, kw_only=True)
class StudyMethod:
    """A line of the study's table."""

    loss: LossName = "bce"
    """Which of the trainer's losses."""

    teacher: bool = True
    """Whether an EMA teacher is evaluated, and remembered by losses that remember one."""

    clean: bool = False
    """Whether training and validation labels are the clean ones: the bound."""

    settings: Mapping[str, Value] = field(default_factory=dict)
    """Settings of the loss that are not drawn."""

    space: Space = field(default_factory=dict)
    """Settings of the loss that are drawn."""

    role: Literal["bound", "baseline", "compared", "ours", "ablation"] = "compared"
    """`bound`: clean labels. `baseline`: one of those whose best the gap is measured from. `ablation`: ours, less a
    part of it."""

    @property
    def drawn(self) -> Space:
        """All that a trial draws."""
        return {**SHARED, **(EMA_LAG if self.teacher else {}), **self.space}

    def trial(self, number: int) -> dict[str, Value]:
        """Return the settings of a trial, the same on every machine."""
        return {
            name: source.at(np.random.default_rng([number, *name.encode()]).random())
            for name, source in self.drawn.items()
        }


METHODS: dict[str, StudyMethod] = {
    "clean labels": StudyMethod(clean=True, role="bound"),
    "bce": StudyMethod(teacher=False, role="baseline"),
    "bce + EMA": StudyMethod(role="baseline"),
    "elr": StudyMethod(
        loss="elr",
        role="baseline",
        space={"elr_weight": Uniform(low=0.1, high=10.0, log=True), "elr_decay": Uniform(low=0.3, high=0.95)},
    ),
    "elr, present alone": StudyMethod(
        loss="elr",
        role="baseline",
        settings={"elr_form": "present"},
        space={"elr_weight": Uniform(low=1.0, high=20.0, log=True), "elr_decay": Uniform(low=0.3, high=0.95)},
    ),
    "asl": StudyMethod(
        loss="asl",
        role="baseline",
        space={
            "asl_gamma_positive": Uniform(low=0.0, high=2.0),
            "asl_gamma_negative": Uniform(low=0.0, high=4.0),
            "asl_margin": Uniform(low=0.0, high=0.2),
        },
    ),
    "gce": StudyMethod(loss="gce", space={"gce_q": Uniform(low=0.1, high=1.0)}),
    "nvum elementwise": StudyMethod(
        loss="nvum",
        settings={"regulariser": "elementwise"},
        space={
            "reg_weight": Uniform(low=0.3, high=10.0, log=True),
            "memory_decay": Uniform(low=0.5, high=0.98),
            "prior_temperature": Uniform(low=0.0, high=2.0),
            "mixup": Choice(values=(True, False)),
        },
    ),
    "nvum inner product": StudyMethod(
        loss="nvum",
        settings={"regulariser": "inner_product"},
        space={
            "reg_weight": Uniform(low=0.03, high=1.0, log=True),
            "memory_decay": Uniform(low=0.5, high=0.98),
            "prior_temperature": Uniform(low=0.0, high=2.0),
            "mixup": Choice(values=(True, False)),
        },
    ),
    "relay": StudyMethod(
        loss="relay",
        space={**ASSUMED, "relay_generations": Choice(values=(2, 3, 4, 5))},
        role="ours",
    ),
    "relay, two generations": StudyMethod(loss="relay", settings={"relay_generations": 2}, space=ASSUMED, role="ours"),
    "relay, labels alone": StudyMethod(loss="relay", settings={"relay_generations": 1}, space=ASSUMED, role="ablation"),
    "relay, labels believed": StudyMethod(
        loss="relay",
        settings={"relay_ppv": 1.0, "relay_sensitivity": 1.0},
        space={"relay_generations": Choice(values=(2, 3, 4, 5))},
        role="ablation",
    ),
}
"""Name -> method. The best of the baselines is what the gap is measured from."""
