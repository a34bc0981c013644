"""Number formats of the forward pass."""

from typing import Any

import pytest
import torch
from torch import nn

from manifests.errors import ConfigError
from trainer.precision import Precision, autocast, gradient_scaler, resolve_precision

CPU = torch.device("cpu")


def test_auto_is_float32_on_the_cpu() -> None:
    assert resolve_precision("auto", CPU) == "fp32"


def test_unknown_precision_is_refused() -> None:
    option: Any = "fp8"
    with pytest.raises(ConfigError, match=r"step\.precision=fp8: expected auto, fp32, bf16, fp16"):
        resolve_precision(option, CPU)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_a_training_step_runs_in_the_format_and_keeps_float32_weights(precision: Precision, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 2)
    before = layer.weight.detach().clone()
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    scaler = gradient_scaler(precision, CPU)
    for _ in range(8):  # the first steps of fp16 overflow by design: the scaler halves its scale until they fit
        optimiser.zero_grad()
        with autocast(precision, CPU):
            outputs = layer(torch.ones(3, 4))
        assert outputs.dtype == dtype
        scaler.scale(outputs.float().square().sum()).backward()
        scaler.step(optimiser)
        scaler.update()
    assert layer.weight.dtype == torch.float32
    assert not torch.equal(layer.weight, before)
    assert scaler.is_enabled() == (precision == "fp16")


def test_a_gradient_that_overflows_skips_the_step() -> None:
    layer = nn.Linear(1, 1)
    before = layer.weight.detach().clone()
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    scaler = gradient_scaler("fp16", CPU)
    scaler.scale(layer(torch.full((1, 1), 1e30)).square().sum()).backward()
    scaler.step(optimiser)
    scaler.update()
    assert torch.equal(layer.weight, before)
