"""Optimisers."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import torch
from torch import nn

from trainer.options import refuse_unless

OptimName = Literal["adam", "adamw", "sgd"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """An optimiser and its settings."""

    name: OptimName = "adam"
    """`adam`, `adamw` (weight decay apart from the gradient) or `sgd`."""

    lr: float = 1e-3
    """Learning rate before the schedule."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decays of adam's and adamw's averages of the gradient and of its square."""

    eps: float = 1e-8
    """Added to the root of adam's and adamw's second average."""

    momentum: float = 0.9
    """Of sgd."""

    nesterov: bool = False
    """Whether sgd looks ahead; needs a momentum."""

    weight_decay: float = 0.0
    """Of weights with two or more dimensions; norms' scales and biases never decay."""

    fused: bool = True
    """Whether one pass over all weights does the whole update. Off: several, and on a GPU each step waits for it."""

    def __post_init__(self) -> None:
        names = ("adam", "adamw", "sgd")
        refuse_unless(self.name in names, "optim.name", self.name, ", ".join(names))
        refuse_unless(isfinite(self.lr) and self.lr > 0, "optim.lr", self.lr, "a number above 0")
        in_range = [0 <= beta < 1 for beta in self.betas] == [True, True]
        refuse_unless(in_range, "optim.betas", self.betas, "two numbers, each at least 0 and below 1")
        refuse_unless(isfinite(self.eps) and self.eps > 0, "optim.eps", self.eps, "a number above 0")
        refuse_unless(0 <= self.momentum < 1, "optim.momentum", self.momentum, "at least 0, below 1")
        refuse_unless(
            not self.nesterov or self.momentum > 0, "optim.nesterov", self.nesterov, "optim.momentum above 0 with it"
        )
        refuse_unless(
            isfinite(self.weight_decay) and self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "0 or more"
        )


def build_optimiser(params: Iterable[nn.Parameter], config: OptimConfig) -> torch.optim.Optimizer:
    """Return the optimiser over the parameters that take gradients.

    Two groups: weights (two or more dimensions), which decay, and norms' scales and biases, which do not.
    """
    trained = [param for param in params if param.requires_grad]
    groups = [
        {"params": [param for param in trained if param.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [param for param in trained if param.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    how = {"fused": config.fused, "foreach": not config.fused}
    if config.name == "sgd":
        sgd = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, **how)
        if config.momentum:
            # Where the first step is left out (`step_unless`), torch would go on from memory that was never written.
            for param in trained:
                sgd.state[param]["momentum_buffer"] = torch.zeros_like(param)
        return sgd
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.lr, betas=config.betas, eps=config.eps, **how)


@torch.no_grad()
def clip_gradients_(weights: Iterable[nn.Parameter], limit: float) -> torch.Tensor:
    """Scale the gradients down to a norm of `limit` over all weights, unless that is 0; return the norm before.

    What `torch.nn.utils.clip_grad_norm_` does, but for gradients that are not scaled: these cost one pass, not two.
    """
    grads = [weight.grad for weight in weights if weight.grad is not None]
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    if limit > 0:
        torch._foreach_mul_(grads, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


def is_fused(optimiser: torch.optim.Optimizer) -> bool:
    """Tell whether the optimiser updates all weights in one pass, so that `step_unless` works."""
    return all(group["fused"] for group in optimiser.param_groups)


def step_unless(optimiser: torch.optim.Optimizer, skip: torch.Tensor) -> None:
    """Let a fused optimiser take its step, unless the bool scalar `skip` holds: the device decides, nobody waits.

    The way by which `torch.amp.GradScaler` tells fused optimisers to leave a step out; counters of steps stay too.
    """
    assert is_fused(optimiser)
    told = {"grad_scale": None, "found_inf": skip.float()}
    for name, value in told.items():
        setattr(optimiser, name, value)
    try:
        optimiser.step()
    finally:
        for name in told:
            delattr(optimiser, name)


def set_learning_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every group of the optimiser this learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
