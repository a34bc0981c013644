"""The contenders of the step's benchmark do what their names say."""

import pytest
import torch

import tools.step_parts
from tools.dense_buffer import with_buffers
from tools.step_parts import COMPILED, GRAPHS, OPTIONS, Case, network_parts, step_parts
from trainer.config import TrainConfig
from trainer.models.densenet import DenseNet121
from trainer.models.registry import build_model
from trainer.sections import build


def test_every_option_runs_beside_its_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools.step_parts, "CASES", {"cpu": [Case("small", 4, 32, "fp32")]})
    parts = step_parts()
    assert len(parts) == 1 + len(OPTIONS)
    assert {part.peer for part in parts} == {parts[0].what}
    for part in [*parts, *network_parts()]:
        part.call()


@pytest.mark.parametrize("values", [*COMPILED.values(), *GRAPHS.values()])
def test_what_only_some_machines_can_run_is_a_configuration(values: dict[str, dict[str, object]]) -> None:
    build(TrainConfig, values, source="test")


def test_densenet_in_buffers_is_densenet() -> None:
    """Forward, backward and running statistics, from the same weights."""
    torch.manual_seed(0)
    plain, buffered = (build_model("densenet121", 3, input_size_px=32) for _ in range(2))
    assert isinstance(buffered, DenseNet121)
    buffered.load_state_dict(plain.state_dict())
    with_buffers(buffered)
    images_B1HW = torch.randn(4, 1, 64, 64)
    losses = [model(images_B1HW).square().sum() for model in (plain, buffered)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=0)
    for loss in losses:
        loss.backward()
    for one, other in zip(plain.parameters(), buffered.parameters(), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5 * float(one.grad.abs().max()))
    buffers = dict(buffered.named_buffers())
    for name, value in plain.named_buffers():
        torch.testing.assert_close(buffers[name], value, rtol=1e-6, atol=1e-7, msg=name)
