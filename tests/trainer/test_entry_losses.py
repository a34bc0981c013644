"""Each loss against its formula, written down again in numpy, probability by probability, in float64."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from manifests.errors import ConfigError
from trainer.methods import METHODS, LossConfig, LossInputs, LossName

Floats = npt.NDArray[np.float64]

PRIOR_C = np.array([0.02, 0.3, 0.6])


def label_smoothing(z: Floats, y: Floats, config: LossConfig) -> Floats:
    p = 1 / (1 + np.exp(-z))
    smoothed = y * (1 - config.smoothing) + 0.5 * config.smoothing
    return np.asarray(-(smoothed * np.log(p) + (1 - smoothed) * np.log(1 - p)))


def focal(z: Floats, y: Floats, config: LossConfig) -> Floats:
    p = 1 / (1 + np.exp(-z))
    alpha = config.focal_alpha
    positive_weight, negative_weight = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    positive = positive_weight * (1 - p) ** config.focal_gamma * np.log(p)
    negative = negative_weight * p**config.focal_gamma * np.log(1 - p)
    return np.asarray(-(y * positive + (1 - y) * negative))


def asl(z: Floats, y: Floats, config: LossConfig) -> Floats:
    p = 1 / (1 + np.exp(-z))
    shifted = np.maximum(p - config.asl_margin, 0)
    positive = (1 - p) ** config.asl_gamma_positive * np.log(p)
    negative = shifted**config.asl_gamma_negative * np.log(1 - shifted)
    return np.asarray(-y * positive - (1 - y) * negative)


def gce(z: Floats, y: Floats, config: LossConfig) -> Floats:
    p = 1 / (1 + np.exp(-z))
    return (y * (1 - p**config.gce_q) + (1 - y) * (1 - (1 - p) ** config.gce_q)) / config.gce_q


def logit_adjustment(z: Floats, y: Floats, config: LossConfig) -> Floats:
    """A softmax over absent (logit 0) and present (logit z), each moved by tau times the log of its prior."""
    present = np.exp(z + config.adjustment * np.log(PRIOR_C))
    absent = np.exp(config.adjustment * np.log(1 - PRIOR_C)) * np.ones_like(z)
    return np.asarray(-(y * np.log(present / (present + absent)) + (1 - y) * np.log(absent / (present + absent))))


FORMULAE: dict[LossName, Callable[[Floats, Floats, LossConfig], Floats]] = {
    "label_smoothing": label_smoothing,
    "focal": focal,
    "asl": asl,
    "gce": gce,
    "logit_adjustment": logit_adjustment,
}

SETTINGS: list[tuple[LossName, dict[str, Any]]] = [
    ("label_smoothing", {}),
    ("label_smoothing", {"smoothing": 0.3}),
    ("focal", {}),
    ("focal", {"focal_gamma": 0.5, "focal_alpha": 0.25}),
    ("asl", {}),
    ("asl", {"asl_gamma_positive": 0.0, "asl_gamma_negative": 2.5, "asl_margin": 0.2}),
    ("asl", {"asl_gamma_negative": 0.0, "asl_margin": 0.0}),
    ("gce", {}),
    ("gce", {"gce_q": 1.0}),
    ("logit_adjustment", {}),
    ("logit_adjustment", {"adjustment": 2.0}),
]


def computed(name: LossName, settings: dict[str, Any], z: Floats, y: Floats) -> tuple[float, Floats]:
    """Loss of a batch without masked entries and its gradient [B, C]."""
    logits_BC = torch.from_numpy(z).requires_grad_()
    inputs = LossInputs(
        logits_BC=logits_BC,
        teacher_logits_BC=logits_BC.detach(),
        targets_BC=torch.from_numpy(y),
        mask_BC=torch.ones(z.shape, dtype=torch.bool),
        index_B=torch.arange(len(z)),
        num_global=len(z),
        log_odds_C=torch.from_numpy(np.log(PRIOR_C / (1 - PRIOR_C))),
    )
    parts = METHODS[name].compute(inputs, LossConfig(name=name, **settings))
    (grad_BC,) = torch.autograd.grad(parts.loss, logits_BC)
    return float(parts.loss.detach()), grad_BC.numpy()


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_value_and_gradient_are_those_of_the_formula(name: LossName, settings: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(0, 3, (40, 3))
    y = rng.random((40, 3)).round(1)  # mixed labels too
    y[:20] = y[:20].round()
    config = LossConfig(name=name, **settings)
    value, grad_BC = computed(name, settings, z, y)
    assert value == pytest.approx(FORMULAE[name](z, y, config).mean(), rel=1e-12)
    step = 1e-5
    differences = FORMULAE[name](z + step, y, config) - FORMULAE[name](z - step, y, config)
    np.testing.assert_allclose(grad_BC, differences / (2 * step) / z.size, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("name", "settings"), [*SETTINGS, ("asl", {"asl_gamma_negative": 0.5})])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_finite_logit_gives_a_finite_loss_and_gradient(
    name: LossName, settings: dict[str, Any], dtype: type
) -> None:
    z: Floats = np.array([-1e30, -1e4, -90.0, -3.0, 0.0, 3.0, 90.0, 1e4, 1e30], dtype).repeat(3).reshape(9, 3)
    y: Floats = np.tile(np.array([0.0, 0.4, 1.0], dtype), (9, 1))
    value, grad_BC = computed(name, settings, z, y)
    assert np.isfinite(value)
    assert np.isfinite(grad_BC).all()


@pytest.mark.parametrize(
    ("name", "settings", "exact"),
    [
        ("label_smoothing", {"smoothing": 0.0}, True),
        ("logit_adjustment", {"adjustment": 0.0}, True),
        ("focal", {"focal_gamma": 0.0}, False),
        ("asl", {"asl_gamma_positive": 0.0, "asl_gamma_negative": 0.0, "asl_margin": 0.0}, False),
        ("gce", {"gce_q": 1e-7}, False),
    ],
)
def test_each_loss_has_a_setting_that_is_cross_entropy(name: LossName, settings: dict[str, Any], exact: bool) -> None:
    rng = np.random.default_rng(1)
    z, y = rng.normal(0, 3, (16, 3)), (rng.random((16, 3)) < 0.3).astype(float)
    (value, grad_BC), (expected, expected_grad_BC) = computed(name, settings, z, y), computed("bce", {}, z, y)
    np.testing.assert_allclose(value, expected, rtol=0 if exact else 1e-5)
    np.testing.assert_allclose(grad_BC, expected_grad_BC, rtol=0 if exact else 1e-5, atol=0 if exact else 1e-9)


def test_logit_adjustment_makes_a_rare_finding_cost_more() -> None:
    z, y = np.zeros((1, 3)), np.ones((1, 3))
    _, grad_BC = computed("logit_adjustment", {}, z, y)
    assert list(np.argsort(grad_BC[0])) == [0, 1, 2], "the rarest is pulled up the most"


@pytest.mark.parametrize(
    "setting",
    [
        {"smoothing": 1.0},
        {"focal_gamma": -1.0},
        {"focal_alpha": 1.5},
        {"asl_gamma_positive": float("nan")},
        {"asl_gamma_negative": -0.1},
        {"asl_margin": 1.0},
        {"gce_q": 0.0},
        {"adjustment": float("inf")},
        {"elr_weight": -1.0},
        {"elr_decay": 1.0},
        {"memory_decay": 1.0},
    ],
)
def test_impossible_settings_are_refused_by_name(setting: dict[str, Any]) -> None:
    ((name, value),) = setting.items()
    with pytest.raises(ConfigError, match=f"loss.{name}={value}: expected"):
        replace(LossConfig(), **setting)
