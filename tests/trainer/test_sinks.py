"""TensorBoard and Weights & Biases see what the history says, and cannot harm a run."""

import logging
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from manifests.errors import ConfigError
from pipeline.errors import MissingBackendError
from tests.trainer.tiny_runs import BCE, before_step, settings
from trainer import launch
from trainer.events import EventLog, read_events
from trainer.sinks import Sinks, scalars
from trainer.step import TrainStep

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard


def shown_by_tensorboard(run: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard itself reads: name -> step -> value."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run / "tensorboard"))
    read.Reload()
    return {name: {entry.step: entry.value for entry in read.Scalars(name)} for name in read.Tags()["scalars"]}


def told_by_history(run: Path) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for event in read_events(run / "events.jsonl"):
        for name, value in scalars(event["event"], event).items():
            found.setdefault(name, {})[event["step"]] = value
    return found


def test_tensorboard_shows_what_the_history_says_also_after_a_resume(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(tiny_pack, BCE, run={"tensorboard": True, "log_every_steps": 1, "checkpoint_every_steps": 2})
    with monkeypatch.context() as patched:

        def crash() -> None:
            raise RuntimeError("power cut")

        patched.setattr(TrainStep, "__call__", before_step(7, crash, TrainStep.__call__))
        with pytest.raises(RuntimeError, match="power cut"):
            launch.train(asked, out=tmp_path / "run")
    assert launch.resume({}, out=tmp_path / "run").finished
    shown, told = shown_by_tensorboard(tmp_path / "run"), told_by_history(tmp_path / "run")
    assert {"train/loss", "train/lr", "epoch/valid_mean_auroc", "epoch/valid_auroc/Effusion"} <= shown.keys()
    assert {name: sorted(values) for name, values in shown.items()} == {
        name: sorted(values) for name, values in told.items()
    }, "step 7 was done twice and is there once"
    for name, values in told.items():
        assert shown[name] == pytest.approx(values, rel=1e-6), name


class Recorder:
    """Stands in for a run of Weights & Biases."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told

    def log(self, numbers: dict[str, float], *, step: int) -> None:
        self.told["logged"].append((step, numbers))

    def finish(self) -> None:
        self.told["finished"] = True


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stand-in for the package, which needs an account; what it is told."""
    told: dict[str, Any] = {"logged": [], "finished": False, "fails": False}

    def init(**options: Any) -> Recorder:
        if told["fails"]:
            raise RuntimeError("api_key not configured")
        told["init"] = options
        return Recorder(told)

    module = ModuleType("wandb")
    module.__spec__ = sys.__spec__
    vars(module)["init"] = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return told


def test_weights_and_biases_is_told_what_the_history_says(
    wandb: dict[str, Any], tiny_pack: Path, tmp_path: Path
) -> None:
    asked = settings(tiny_pack, BCE, run={"wandb": True, "wandb_project": "films", "log_every_steps": 1, "epochs": 1})
    launch.train(asked, out=tmp_path / "run")
    options = wandb["init"]
    assert (options["project"], options["name"], options["resume"]) == ("films", "run", "allow")
    assert options["config"]["loss"]["name"] == "bce"
    found: dict[str, dict[int, float]] = {}
    for step, numbers in wandb["logged"]:
        for name, value in numbers.items():
            found.setdefault(name, {})[step] = value
    assert found == told_by_history(tmp_path / "run")
    assert wandb["finished"]


def test_a_resumed_run_goes_on_with_the_same_one(
    wandb: dict[str, Any], tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(tiny_pack, BCE, run={"wandb": True, "epochs": 1})
    with monkeypatch.context() as patched:
        stop = lambda: signal.raise_signal(signal.SIGTERM)  # noqa: E731
        patched.setattr(TrainStep, "__call__", before_step(1, stop, TrainStep.__call__))
        launch.train(asked, out=tmp_path / "run")
    first = wandb["init"]["id"]
    launch.resume({}, out=tmp_path / "run")
    assert wandb["init"]["id"] == first
    launch.train(asked, out=tmp_path / "another")
    assert wandb["init"]["id"] != first


def test_who_is_not_logged_in_is_told_what_to_do(wandb: dict[str, Any], tiny_pack: Path, tmp_path: Path) -> None:
    wandb["fails"] = True
    with pytest.raises(ConfigError, match=r"api_key not configured.*run `wandb login`, set WANDB_MODE=offline"):
        launch.train(settings(tiny_pack, BCE, run={"wandb": True}), out=tmp_path / "run")


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_package_that_is_missing_is_named_before_anything_is_made(
    name: str, tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.sinks.find_spec", lambda name: None)
    with pytest.raises(MissingBackendError, match=rf"run.{name}=true: .*pip install 'cxr-nvum\[{name}\]'"):
        launch.train(settings(tiny_pack, BCE, run={name: True}), out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


class Broken:
    """A sink that cannot do anything."""

    def __init__(self) -> None:
        self.num_calls = 0

    def write(self, scalars: object, step: int) -> None:
        self.num_calls += 1
        raise OSError("disk full")

    def close(self) -> None:
        self.num_calls += 1
        raise OSError("disk full")


def test_a_sink_that_fails_is_left_out_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken, untouched = Broken(), Broken()
    with caplog.at_level(logging.WARNING), EventLog(tmp_path / "events.jsonl", Sinks({"TensorBoard": broken})) as log:
        for step in range(3):
            log.write("train", step=step, loss=0.5)
    assert broken.num_calls == 1
    assert caplog.text.count("TensorBoard: failed and is left out from now on (OSError: disk full)") == 1
    assert [event["step"] for event in read_events(tmp_path / "events.jsonl")] == [0, 1, 2]
    Sinks({"W&B": untouched}).close()
    assert "W&B: could not be closed" in caplog.text


def test_numbers_of_events_have_names_and_what_is_missing_has_none() -> None:
    fields = {"epoch": 1, "step": 7, "loss": 0.5, "is_best": True, "valid_auroc": {"Mass": 0.8, "Hernia": None}}
    assert scalars("epoch", fields) == {"epoch/loss": 0.5, "epoch/valid_auroc/Mass": 0.8}
    assert scalars("end", {"epoch": 2, "step": 8, "best_epoch": 1}) == {}
