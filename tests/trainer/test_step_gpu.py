"""A whole step on a GPU: nothing waits for the device, and the numbers are those of the CPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.batch import Batch
from pipeline.loaders import LoadedStep
from tests.trainer.tiny_runs import settings
from trainer.config import TrainConfig
from trainer.data import TrainingData, open_training_data
from trainer.distributed import ALONE
from trainer.losses import LossParts
from trainer.methods import METHODS
from trainer.rng import seed_generators
from trainer.sections import build
from trainer.settle import settle
from trainer.state import new_state
from trainer.step import TrainStep
from trainer.sums import LossSums

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here"),
]


@pytest.fixture(scope="module")
def data(tiny_pack: Path) -> TrainingData:
    return open_training_data(tiny_pack, space_name="nvum-nih", prior_form="authors")


@pytest.fixture
def waiting_is_an_error() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


def six_steps(data: TrainingData, device: str, *, watched: bool = False, **sections: dict[str, Any]) -> list[LossParts]:
    """Five steps from the same weights over the same images, the last three of them watched."""
    values = settings(data.pack.folder, {"run": {"device": device}}, **sections)
    config = settle(build(TrainConfig, values, source="test"), data.pack, ALONE)
    seed_generators(0)
    state = new_state(
        config,
        num_rows=data.pack.num_samples,
        num_outputs=len(data.space.findings),
        device=torch.device(device),
        load_weights=False,
        ranks=ALONE,
    )
    step, sums, parts = TrainStep(config, data, state), LossSums(torch.device(device)), []
    draw = torch.Generator().manual_seed(0)
    rows_n = data.train.sample_index_n[:8]
    for number in range(6):
        images_B1HW = torch.randint(0, 256, (8, 1, 32, 32), generator=draw, dtype=torch.uint8)
        batch = Batch(images_B1HW=images_B1HW.to(device), sample_index_B=torch.from_numpy(rows_n).to(device))
        if watched and number == 4:
            torch.cuda.set_sync_debug_mode("error")
        parts.append(step(LoadedStep(batch, 8 * (number % 3 + 1), 8), rows_n))
        sums.add(parts[-1], 8)
    torch.cuda.set_sync_debug_mode("default")
    return parts


@pytest.mark.usefixtures("waiting_is_an_error")
@pytest.mark.parametrize("policy", ["stop", "skip"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("loss", METHODS)
def test_a_steady_step_waits_for_nothing(loss: str, precision: str, policy: str, data: TrainingData) -> None:
    step = {"precision": precision, "on_nonfinite": policy, "clip_norm": 1.0, "accumulate": 2}
    parts = six_steps(data, "cuda", watched=True, loss={"name": loss}, ema={"enabled": "on"}, step=step)
    assert all(bool(part.loss.isfinite()) for part in parts)


@pytest.mark.usefixtures("waiting_is_an_error")
@pytest.mark.parametrize(
    "how",
    [
        {"step": {"cuda_graph": True}},
        {"step": {"compile": True}},
        {"step": {"compile": True, "cuda_graph": True}},
        {"model": {"name": "small", "recompute": True}},
        {"model": {"name": "small", "channels_last": False}},
    ],
)
def test_however_the_networks_are_called_nothing_waits_and_the_losses_are_the_same(
    how: dict[str, dict[str, Any]], data: TrainingData
) -> None:
    sections: dict[str, Any] = {"loss": {"name": "nvum"}, "step": {"precision": "fp32"}}
    plain = six_steps(data, "cuda", **sections)
    sections["step"] = sections["step"] | how.get("step", {})
    called = six_steps(data, "cuda", watched=True, **(how | sections))
    for one, other in zip(plain, called, strict=True):
        torch.testing.assert_close(other.loss, one.loss, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("loss", METHODS)
def test_the_first_losses_are_those_of_the_cpu(loss: str, data: TrainingData) -> None:
    sections: dict[str, Any] = {"loss": {"name": loss}, "step": {"precision": "fp32"}}
    here, there = (six_steps(data, device, **sections) for device in ("cuda", "cpu"))
    for one, other in list(zip(here, there, strict=True))[:2]:
        torch.testing.assert_close(one.loss.cpu(), other.loss, rtol=1e-2, atol=1e-3)
