"""Optimisers against their formulas, and what configuration refuses."""

from typing import Any

import pytest
import torch
from torch import nn

from manifests.errors import ConfigError
from trainer.optim import OptimConfig, OptimName, build_optimiser, clip_gradients_, set_learning_rate, step_unless


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * 4 * 4, 3))


def gradient_steps(model: nn.Module, config: OptimConfig, num_steps: int = 3) -> list[list[torch.Tensor]]:
    """Return the gradients of each step, taken while the optimiser moves the model."""
    optimiser = build_optimiser(model.parameters(), config)
    gradients = []
    for step in range(num_steps):
        optimiser.zero_grad()
        model(torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(step))).square().sum().backward()
        gradients.append([param.grad.clone() for param in model.parameters() if param.grad is not None])
        optimiser.step()
    return gradients


def adam(param: torch.Tensor, gradients: list[torch.Tensor], config: OptimConfig, decay: float) -> torch.Tensor:
    """Kingma and Ba 2015; AdamW after Loshchilov and Hutter 2019."""
    param, first, second = param.double(), torch.zeros_like(param).double(), torch.zeros_like(param).double()
    beta1, beta2 = config.betas
    for t, grad in enumerate(gradients, start=1):
        if config.name == "adamw":
            param, grad = param * (1 - config.lr * decay), grad.double()
        else:
            grad = grad.double() + decay * param
        first = beta1 * first + (1 - beta1) * grad
        second = beta2 * second + (1 - beta2) * grad**2
        param = param - config.lr * (first / (1 - beta1**t)) / ((second / (1 - beta2**t)).sqrt() + config.eps)
    return param


def sgd(param: torch.Tensor, gradients: list[torch.Tensor], config: OptimConfig, decay: float) -> torch.Tensor:
    param, velocity = param.double(), torch.zeros_like(param).double()
    for grad in gradients:
        grad = grad.double() + decay * param
        velocity = config.momentum * velocity + grad
        param = param - config.lr * (grad + config.momentum * velocity if config.nesterov else velocity)
    return param


@pytest.mark.parametrize(
    "config",
    [
        OptimConfig(name="adam", lr=0.05, betas=(0.9, 0.99), eps=0.1),  # the authors' on NIH
        OptimConfig(name="adam", lr=0.01, weight_decay=0.1),
        OptimConfig(name="adamw", lr=0.01, weight_decay=0.1),
        OptimConfig(name="sgd", lr=0.01, momentum=0.9, weight_decay=0.1),
        OptimConfig(name="sgd", lr=0.01, momentum=0.9, nesterov=True),
        OptimConfig(name="sgd", lr=0.01, momentum=0.0),
    ],
    ids=["adam-authors", "adam", "adamw", "sgd", "nesterov", "sgd-plain"],
)
def test_optimiser_equals_its_formula(config: OptimConfig) -> None:
    """And weight decay spares norms' scales and biases."""
    model = net()
    start = [param.detach().clone() for param in model.parameters()]
    gradients = gradient_steps(model, config)
    rule = sgd if config.name == "sgd" else adam
    for number, (param, first) in enumerate(zip(model.parameters(), start, strict=True)):
        decay = config.weight_decay if param.ndim > 1 else 0.0
        expected = rule(first, [step[number] for step in gradients], config, decay)
        torch.testing.assert_close(param.detach(), expected.float(), rtol=1e-4, atol=1e-5)


def test_frozen_parameters_are_left_alone() -> None:
    model = net()
    frozen = model.get_parameter("0.weight").requires_grad_(False)
    optimiser = build_optimiser(model.parameters(), OptimConfig())
    held = {id(param) for group in optimiser.param_groups for param in group["params"]}
    assert id(frozen) not in held
    assert len(held) == len(list(model.parameters())) - 1


def test_learning_rate_reaches_every_group() -> None:
    optimiser = build_optimiser(net().parameters(), OptimConfig())
    set_learning_rate(optimiser, 0.125)
    assert len(optimiser.param_groups) == 2
    assert {group["lr"] for group in optimiser.param_groups} == {0.125}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("name", "lion"), ("lr", 0.0), ("lr", -1.0), ("lr", float("nan")), ("lr", float("inf")), ("betas", (0.9, 1.0)),
        ("betas", (0.9,)), ("eps", 0.0), ("momentum", 1.0), ("weight_decay", -0.1),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"optim\.{option}="):
        OptimConfig(**{option: value})


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optim\.momentum above 0"):
        OptimConfig(name="sgd", nesterov=True, momentum=0.0)


@pytest.mark.parametrize("limit", [0.0, 0.5, 1e9])
def test_clipping_is_that_of_torch(limit: float) -> None:
    ours, theirs = net(), net()
    theirs.load_state_dict(ours.state_dict())
    for model in (ours, theirs):
        model(torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    norm = clip_gradients_(ours.parameters(), limit)
    expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), limit or float("inf"))
    assert torch.equal(norm, expected)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("skipped", [0, 1])
def test_a_step_that_the_device_leaves_out_was_never_there(name: OptimName, skipped: int) -> None:
    """Also the first one, where the averages do not exist yet."""
    ours, plain = net(), net()
    plain.load_state_dict(ours.state_dict())
    optimisers = [build_optimiser(model.parameters(), OptimConfig(name=name, lr=0.1)) for model in (ours, plain)]
    for number in range(4):
        spoilt = number == skipped
        for model, optimiser in zip((ours, plain), optimisers, strict=True):
            optimiser.zero_grad()
            loss = model(torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(number))).square().sum()
            (loss * float("nan") if spoilt else loss).backward()
        step_unless(optimisers[0], torch.tensor(spoilt))
        if not spoilt:
            optimisers[1].step()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        assert bool(one.isfinite().all())
        assert torch.equal(one, other)
