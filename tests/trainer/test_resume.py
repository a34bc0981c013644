"""A run that was interrupted and resumed ends in the bits of one that was not."""

import logging
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from manifests.errors import ConfigError
from tests.trainer.tiny_runs import (
    METHODS,
    NVUM,
    assert_same_run,
    before_step,
    different_leaves,
    newest_checkpoint,
    own_events,
    settings,
)
from trainer import launch, nvum_native
from trainer.config import TrainConfig
from trainer.distributed import ALONE
from trainer.events import read_events
from trainer.inference import infer
from trainer.run_folder import RunFolder
from trainer.sections import Values, build
from trainer.state import new_state
from trainer.step import TrainStep


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class Crash(RuntimeError):
    """What ends a process without any warning."""


def crash() -> NoReturn:
    raise Crash


@pytest.mark.parametrize("method", [*METHODS, "nvum in fp16"])
def test_stopped_within_an_epoch_and_resumed_is_bitwise_the_undisturbed_run(
    method: str, tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_fp16: Values = {**NVUM, "step": {"precision": "fp16"}}  # with a gradient scaler, whose state counts too
    asked = settings(tiny_pack, METHODS.get(method, in_fp16))
    launch.train(asked, out=tmp_path / "undisturbed")

    monkeypatch.setattr(TrainStep, "__call__", before_step(4, interrupt, TrainStep.__call__))
    stopped = launch.train(asked, out=tmp_path / "resumed")
    assert (stopped.finished, stopped.exit_code) == (False, 0)
    assert newest_checkpoint(tmp_path / "resumed")["cursor"]["step"] == 5
    outcome = launch.resume({}, out=tmp_path / "resumed")
    assert (outcome.finished, outcome.exit_code) == (True, 0)
    assert_same_run(tmp_path / "undisturbed", tmp_path / "resumed")


@pytest.mark.parametrize("step", range(8))
def test_a_stop_after_any_step_loses_nothing(
    step: int, tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(tiny_pack, NVUM)
    with monkeypatch.context() as patched:
        patched.setattr(TrainStep, "__call__", before_step(step, interrupt, TrainStep.__call__))
        launch.train(asked, out=tmp_path / "run")
    launch.resume({}, out=tmp_path / "run")
    assert [event["step"] for event in own_events(tmp_path / "run")] == [3, 4, 6, 8, 8]
    steps = [event["step"] for event in read_events(tmp_path / "run" / "events.jsonl") if event["event"] == "resume"]
    assert steps == [step + 1]
    assert not (tmp_path / "run" / "events.lost.jsonl").exists()


def test_stopped_during_validation_is_bitwise_the_undisturbed_run(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(tiny_pack, NVUM)
    launch.train(asked, out=tmp_path / "undisturbed")

    def interrupted_infer(*arguments: Any, **keywords: Any) -> Any:
        interrupt()
        return infer(*arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr("trainer.validation.infer", interrupted_infer)
        assert not launch.train(asked, out=tmp_path / "resumed").finished
    cursor = newest_checkpoint(tmp_path / "resumed")["cursor"]
    assert (cursor["epoch"], cursor["step"]) == (0, 4)
    launch.resume({}, out=tmp_path / "resumed")
    assert_same_run(tmp_path / "undisturbed", tmp_path / "resumed")


def test_a_crash_goes_back_to_the_last_checkpoint_and_keeps_the_lost_events_apart(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(tiny_pack, NVUM, run={"checkpoint_every_steps": 2, "log_every_steps": 1})
    launch.train(asked, out=tmp_path / "undisturbed")
    with monkeypatch.context() as patched:
        patched.setattr(TrainStep, "__call__", before_step(7, crash, TrainStep.__call__))
        with pytest.raises(Crash):
            launch.train(asked, out=tmp_path / "resumed")
    assert newest_checkpoint(tmp_path / "resumed")["cursor"]["step"] == 6
    launch.resume({}, out=tmp_path / "resumed")
    assert_same_run(tmp_path / "undisturbed", tmp_path / "resumed")
    lost = list(read_events(tmp_path / "resumed" / "events.lost.jsonl"))
    assert [event["step"] for event in lost] == [7]


def test_a_run_without_a_checkpoint_begins_again(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(tiny_pack, NVUM, run={"log_every_steps": 1})
    launch.train(asked, out=tmp_path / "undisturbed")
    with monkeypatch.context() as patched:
        patched.setattr(TrainStep, "__call__", before_step(2, crash, TrainStep.__call__))
        with pytest.raises(Crash):
            launch.train(asked, out=tmp_path / "resumed")
    launch.resume({}, out=tmp_path / "resumed")
    assert_same_run(tmp_path / "undisturbed", tmp_path / "resumed")
    assert [event["event"] for event in read_events(tmp_path / "resumed" / "events.jsonl")].count("start") == 1


def test_an_unreadable_newest_checkpoint_is_passed_over_with_a_warning(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = settings(tiny_pack, NVUM, run={"checkpoint_every_steps": 2})
    launch.train(asked, out=tmp_path / "undisturbed")
    monkeypatch.setattr(TrainStep, "__call__", before_step(7, crash, TrainStep.__call__))
    with pytest.raises(Crash):
        launch.train(asked, out=tmp_path / "resumed")
    newest, one_before = RunFolder(folder=tmp_path / "resumed").checkpoints.newest_first()
    newest.write_bytes(newest.read_bytes()[:1000])
    with caplog.at_level(logging.WARNING):
        launch.resume({}, out=tmp_path / "resumed")
    assert str(newest) in caplog.text
    resumed = [event for event in read_events(tmp_path / "resumed" / "events.jsonl") if event["event"] == "resume"]
    assert [event["checkpoint"] for event in resumed] == [one_before.name]
    assert_same_run(tmp_path / "undisturbed", tmp_path / "resumed")
    one_before.write_bytes(b"")


def test_a_finished_run_is_left_as_it_is_and_says_so(
    tiny_pack: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = settings(tiny_pack)
    launch.train(asked, out=tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for given in ({}, asked):
        caplog.clear()
        assert launch.resume(given, out=tmp_path / "run").finished
        assert "this run is finished" in caplog.text
    with pytest.raises(ConfigError, match=r"run\.epochs=9: the run .* was begun with 2"):
        launch.resume({"run": {"epochs": 9}}, out=tmp_path / "run")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_an_optimiser_computes_as_this_device_does_not_as_the_checkpoints(name: str, tiny_pack: Path) -> None:
    config = build(TrainConfig, settings(tiny_pack, optim={"name": name}), source="test")
    parts: dict[str, Any] = {"num_rows": 64, "num_outputs": 14, "device": torch.device("cpu"), "load_weights": False}
    parts["ranks"] = ALONE
    config = replace(config, model=replace(config.model, input_size_px=32))
    there, here = new_state(config, **parts), new_state(config, **parts)
    content = there.checkpoint(ALONE)
    for group in content["optimiser"]["param_groups"]:
        group |= {"fused": False, "foreach": True, "lr": 0.125}  # as another device, or version, writes them
    here.restore(content, ALONE)
    found = [(group["fused"], group["foreach"], group["lr"]) for group in here.optimiser.param_groups]
    assert found == [(True, False, 0.125)] * len(found)


@pytest.fixture
def interrupted_run(tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of nvum that was stopped after three steps of eight."""
    with monkeypatch.context() as patched:
        patched.setattr(TrainStep, "__call__", before_step(2, interrupt, TrainStep.__call__))
        launch.train(settings(tiny_pack, NVUM), out=tmp_path / "run")
    return tmp_path / "run"


def test_another_thread_count_is_warned_of(interrupted_run: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        launch.resume({"run": {"num_threads": 2}}, out=interrupted_run)
    assert "run.num_threads=2, the checkpoint was written with 1" in caplog.text
    messages = [event["message"] for event in read_events(interrupted_run / "events.jsonl") if "message" in event]
    assert any("run.num_threads=2" in message for message in messages)


def test_another_way_of_computing_the_loss_is_warned_of(
    interrupted_run: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvum_native, "library", None)
    with caplog.at_level(logging.WARNING):
        launch.resume({}, out=interrupted_run)
    assert "the NVUM step is analytic here, the checkpoint was written with native" in caplog.text
    events = [event for event in read_events(interrupted_run / "events.jsonl") if "cpu_nvum_step" in event]
    assert [(event["event"], event["cpu_nvum_step"]) for event in events] == [
        ("start", "native"),
        ("resume", "analytic"),
    ]


def test_what_the_results_do_not_depend_on_may_change(interrupted_run: Path) -> None:
    asked: Values = {"loader": {"backend": "reference", "prefetch": 2}, "run": {"checkpoint_every_steps": 1}}
    assert launch.resume(asked, out=interrupted_run).finished


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"optim": {"lr": 0.02}}, "optim.lr=0.02: the run {run} was begun with 0.01"),
        ({"run": {"epochs": 3}}, "run.epochs=3: the run {run} was begun with 2"),
        ({"loss": {"name": "bce"}}, "loss.name=bce: the run {run} was begun with nvum"),
        ({"ema": {"enabled": "off"}}, "ema.enabled=off: the run {run} was begun with on"),
        ({"loader": {"batch_size": 4}}, "loader.batch_size=4: the run {run} was begun with 8"),
    ],
)
def test_what_the_results_depend_on_may_not(asked: dict[str, Any], message: str, interrupted_run: Path) -> None:
    before = (interrupted_run / "events.jsonl").read_bytes()
    with pytest.raises(ConfigError) as error:
        launch.resume(asked, out=interrupted_run)
    assert message.format(run=interrupted_run) in str(error.value)
    assert (interrupted_run / "events.jsonl").read_bytes() == before


def test_a_checkpoint_holds_the_memory_of_half_an_epoch(interrupted_run: Path) -> None:
    memory = newest_checkpoint(interrupted_run)["memory"]
    assert 0 < int(memory["touched_N"].sum()) < 30
    assert memory["current_NC"][memory["touched_N"]].abs().min() > 0
    assert not memory["previous_NC"].any()


def test_the_comparison_of_checkpoints_sees_one_bit(interrupted_run: Path) -> None:
    one, other = newest_checkpoint(interrupted_run), newest_checkpoint(interrupted_run)
    assert different_leaves(one, other) == []
    other["memory"]["current_NC"][0, 0] += 1
    assert different_leaves(one, other) == [".memory.current_NC"]
