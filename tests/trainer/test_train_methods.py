"""Every loss trains by one flag, and what it needs is in the checkpoint."""

import math
from pathlib import Path

import pytest
import torch

from manifests.errors import ConfigError
from tests.trainer.tiny_runs import assert_same_run, before_step, newest_checkpoint, own_events, settings
from trainer import launch
from trainer.methods import METHODS, LossName
from trainer.step import TrainStep
from trainer.trained_model import load_trained_model


@pytest.mark.parametrize("loss", METHODS)
def test_every_loss_trains_by_one_flag(loss: LossName, tiny_pack: Path, tmp_path: Path) -> None:
    run = launch.train(settings(tiny_pack, loss={"name": loss}, run={"log_every_steps": 1}), out=tmp_path / "run").run
    losses = [event["loss"] for event in own_events(run) if event["event"] == "train"]
    assert len(losses) == 8
    assert all(math.isfinite(value) for value in losses)
    first = 4 if METHODS[loss].generation else 0  # weights begin anew with the second epoch
    assert min(losses[first + 1 :][-4:]) < losses[first], "it goes down"
    memory, columns = newest_checkpoint(run)["memory"], METHODS[loss].memory_columns
    assert (memory is not None) is (columns > 0)
    if memory is not None:
        assert memory["previous_NC"].shape == (64, 14 * columns)
        assert bool(memory["previous_NC"].any())
    assert load_trained_model(run).config.loss.name == loss


@pytest.mark.parametrize(
    "sections",
    [{"loss": {"name": "elr"}}, {"loss": {"name": "relay"}}, {"loss": {"name": "nvum"}, "step": {"accumulate": 3}}],
)
def test_resumed_in_the_middle_of_an_epoch_it_has_the_same_bits(
    sections: dict[str, dict[str, object]], tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(tiny_pack, sections, run={"checkpoint_every_steps": 1})
    launch.train(asked, out=tmp_path / "undisturbed")

    def crash() -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(TrainStep, "__call__", before_step(6, crash, TrainStep.__call__))
        with pytest.raises(RuntimeError, match="power cut"):
            launch.train(asked, out=tmp_path / "cut")
    assert launch.resume({}, out=tmp_path / "cut").finished
    assert_same_run(tmp_path / "undisturbed", tmp_path / "cut")


def test_a_run_goes_on_however_its_networks_are_called(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How it computes is no part of what it computes: recomputation may come and go, and changes no bit."""
    asked = settings(tiny_pack, loss={"name": "bce"}, run={"checkpoint_every_steps": 1})
    launch.train(asked, out=tmp_path / "plain")

    def crash() -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(TrainStep, "__call__", before_step(3, crash, TrainStep.__call__))
        with pytest.raises(RuntimeError, match="power cut"):
            launch.train(asked, out=tmp_path / "changed")
    assert launch.resume({"model": {"recompute": True}}, out=tmp_path / "changed").finished
    plain, changed = (newest_checkpoint(tmp_path / name) for name in ("plain", "changed"))
    for name, value in plain["student"].items():
        assert torch.equal(value, changed["student"][name]), name


def test_parts_of_a_single_small_image_are_refused(tiny_pack: Path, tmp_path: Path) -> None:
    asked = settings(tiny_pack, model={"name": "densenet121"}, step={"accumulate": 8})
    with pytest.raises(ConfigError, match=r"a single image, of 32 px.*fewer parts .step.accumulate."):
        launch.train(asked, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
