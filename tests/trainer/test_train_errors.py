"""What cannot work is refused in one clear message, and nothing half written is left."""

import errno
import json
import logging
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from manifests.errors import ConfigError, UserError
from pipeline.errors import PackError
from tests.factories import make_pack
from tests.trainer.tiny_runs import (
    BCE,
    NVUM,
    before_step,
    largest_file,
    newest_checkpoint,
    own_events,
    repacked,
    settings,
    with_column,
)
from trainer import launch, methods
from trainer.events import read_events
from trainer.losses import LossParts
from trainer.run_folder import RunFolder
from trainer.sections import Values
from trainer.step import TrainStep
from trainer.trained_model import load_trained_model


@pytest.mark.parametrize(
    ("asked", "kind", "message"),
    [
        ({"data": {"pack": "nowhere"}}, PackError, "nowhere: no such folder"),
        ({"data": {"label_space": "nvum-nhi"}}, ConfigError, "did you mean nvum-nih?"),
        ({"model": {"name": "smal"}}, ConfigError, "did you mean small?"),
        ({"model": {"input_size_px": 64}}, ConfigError, "model.input_size_px=64: the images of"),
        ({"model": {"input_size_px": 16}}, ConfigError, "images of 16 px"),
        ({"model": {"name": "densenet121"}, "loader": {"batch_size": 1}}, ConfigError, "a step has a single image"),
        ({"model": {"pretrained": "imagenet"}}, ConfigError, "there are no ImageNet weights of the model small"),
        ({"model": {"pretrained": "nowhere.pth"}}, ConfigError, "nowhere.pth"),
        ({"loader": {"backend": "rwa"}}, ConfigError, "did you mean"),
        ({"loader": {"backend": "dali"}}, PackError, "which the loader 'dali' does not read"),
        ({"run": {"device": "tpu"}}, ConfigError, "run.device=tpu: expected auto, cpu, cuda or cuda:N"),
        ({"run": {"device": "cuda:99"}}, ConfigError, "run.device=cuda:99: this machine has"),
        ({"schedule": {"warmup_epochs": 2.0}}, ConfigError, "the warm-up must end before the run does"),
    ],
)
def test_a_run_that_cannot_begin_leaves_no_folder(
    asked: dict[str, Any], kind: type[UserError], message: str, tiny_pack: Path, tmp_path: Path
) -> None:
    with pytest.raises(kind) as error:
        launch.train(settings(tiny_pack, asked), out=tmp_path / "run")
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_out_is_refused_and_untouched(tiny_pack: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=f"{tmp_path}: exists already.*--resume --out"):
        launch.train(settings(tiny_pack), out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_may_become_the_run(tiny_pack: Path, tmp_path: Path) -> None:
    assert launch.train(settings(tiny_pack, run={"epochs": 1}), out=tmp_path).finished


def test_an_out_that_cannot_be_made_is_refused(tiny_pack: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match="file/run: cannot be made"):
        launch.train(settings(tiny_pack), out=tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "no folder"


def test_a_label_space_that_the_pack_does_not_label_is_refused(tmp_path: Path) -> None:
    pack = repacked(tmp_path, lambda table: table.drop_columns(["Hernia", "Mass"]))
    with pytest.raises(ConfigError) as error:
        launch.train(settings(pack), out=tmp_path / "run")
    message = (
        "no training row is labelled for Mass, Hernia, outputs of the label space nvum-nih; choose a --label-space"
    )
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


def test_an_empty_training_selection_is_refused_with_what_was_left_out(tmp_path: Path) -> None:
    pack = repacked(tmp_path, lambda table: with_column(table, "Consolidation", pa.array([1] * len(table), pa.int8())))
    with pytest.raises(ConfigError) as error:
        launch.train(settings(pack), out=tmp_path / "run")
    assert "no row of the split train is in the label space nvum-nih, 16 left out: Consolidation present" in str(
        error.value
    )
    assert not (tmp_path / "run").exists()


def poisoned(number: int, monkeypatch: pytest.MonkeyPatch, name: str = "bce_loss") -> None:
    """Make the loss of the step after `number` steps a NaN."""
    calls, compute = iter(range(1000)), getattr(methods, name)

    def loss(*arguments: Any, **keywords: Any) -> LossParts:
        parts: LossParts = compute(*arguments, **keywords)
        return parts if next(calls) != number else parts._replace(loss=parts.loss * float("nan"))

    monkeypatch.setattr(methods, name, loss)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(6, monkeypatch)
    with pytest.raises(ConfigError, match="epoch 1, step 6: the loss or its gradient is not a finite number"):
        launch.train(settings(tiny_pack, BCE), out=tmp_path / "run")
    kept = newest_checkpoint(tmp_path / "run")
    assert kept["cursor"] == {"epoch": 1, "consumed": 0, "step": 4}
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept["student"].values())


def test_a_skipped_step_changes_no_weight_and_is_counted(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(6, monkeypatch)
    asked = settings(tiny_pack, BCE, step={"on_nonfinite": "skip"}, run={"log_every_steps": 1})
    asked["run"]["checkpoint_every_steps"] = 1
    states = []
    call = TrainStep.__call__

    def remember(self: TrainStep, *arguments: Any) -> Any:
        parts = call(self, *arguments)
        states.append({name: tensor.clone() for name, tensor in self.state.student.state_dict().items()})
        return parts

    monkeypatch.setattr(TrainStep, "__call__", remember)
    launch.train(asked, out=tmp_path / "run")
    same = [all(torch.equal(one[name], other[name]) for name in one) for one, other in pairwise(states)]
    assert same == [False] * 5 + [True, False]
    events = own_events(tmp_path / "run")
    assert [event["num_steps_skipped"] for event in events if event["event"] == "train"] == [0] * 6 + [1, 0]
    assert [event["num_steps_skipped"] for event in events if event["event"] == "epoch"] == [0, 1]


def test_rows_of_a_skipped_step_are_counted_in_the_memory(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(6, monkeypatch, "nvum_step")
    launch.train(settings(tiny_pack, NVUM, step={"on_nonfinite": "skip"}), out=tmp_path / "run")
    events = own_events(tmp_path / "run")
    assert [event["num_steps_skipped"] for event in events if event["event"] == "epoch"] == [0, 1]


def test_a_full_disk_leaves_the_checkpoints_that_are_there(tiny_pack: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with largest_file(3_000_000), pytest.raises(ConfigError) as error:
        launch.train(settings(tiny_pack, NVUM), out=run)
    assert "checkpoint cannot be written" in str(error.value)
    assert f"cxr-train --resume --out {run}" in str(error.value)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["best.pt"], "best.pt fits into the limit"
    assert launch.resume({}, out=run).finished


def test_no_space_is_reported_by_its_name(tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        launch.train(settings(tiny_pack, BCE), out=tmp_path / "run")


def test_a_fault_of_ours_in_a_checkpoint_is_not_taken_for_a_full_disk(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("a tensor of ours")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match="a tensor of ours"):
        launch.train(settings(tiny_pack, BCE), out=tmp_path / "run")


@pytest.fixture
def stopped_run(tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of nvum that was stopped after one step."""
    with monkeypatch.context() as patched:
        raise_signal = lambda: signal.raise_signal(signal.SIGTERM)  # noqa: E731
        patched.setattr(TrainStep, "__call__", before_step(0, raise_signal, TrainStep.__call__))
        launch.train(settings(tiny_pack, NVUM), out=tmp_path / "run")
    return tmp_path / "run"


def test_a_pack_of_another_identity_is_refused(stopped_run: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_pack(tmp_path / "other", num_images=48, size_px=32)
    before = (stopped_run / "events.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=r"checkpoint of another pack: found .*this run has"):
        launch.resume({"data": {"pack": str(other.folder)}}, out=stopped_run)
    assert (stopped_run / "events.jsonl").read_bytes() == before


def test_a_moved_pack_of_the_same_identity_is_taken_and_remembered(
    stopped_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = RunFolder(folder=stopped_run).read_config()
    (tmp_path / "moved").mkdir()
    same = make_pack(tmp_path / "moved", num_images=64, size_px=32)
    with monkeypatch.context() as patched:
        stop = lambda: signal.raise_signal(signal.SIGTERM)  # noqa: E731
        patched.setattr(TrainStep, "__call__", before_step(2, stop, TrainStep.__call__))
        asked: Values = {"data": {"pack": str(same.folder)}, "run": {"log_every_steps": 1}}
        assert not launch.resume(asked, out=stopped_run).finished
    now = RunFolder(folder=stopped_run).read_config()
    assert now == replace(begun, data=replace(begun.data, pack=str(same.folder))), "the pack, and nothing else"
    assert launch.resume({}, out=stopped_run).finished
    assert load_trained_model(stopped_run).config.data.pack == str(same.folder)


@pytest.mark.parametrize("left", [None, b"", b'{"event": "start"}\n', b"garbage\n", b'{"event": "st'])
def test_a_lost_history_stops_nobody_and_is_said_once(
    left: bytes | None, stopped_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = stopped_run / "events.jsonl"
    events.unlink() if left is None else events.write_bytes(left)
    with caplog.at_level(logging.WARNING):
        assert launch.resume({}, out=stopped_run).finished
    assert caplog.text.count("a part of the history is gone") == 1
    lines = events.read_bytes().splitlines()
    assert json.loads(lines[1 if left and left.endswith(b"\n") else 0])["event"] == "resume"
    assert json.loads(lines[-1])["event"] == "end"


def test_a_number_that_another_process_took_meanwhile_is_passed_over(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, free = tmp_path / "run-001", tmp_path / "run-002"
    (taken / "checkpoints").mkdir(parents=True)
    folders = iter([taken, free])
    monkeypatch.setattr(launch, "_default_folder", lambda config, pack: next(folders))
    assert launch.train(settings(tiny_pack, BCE, run={"epochs": 1})).run == free
    assert [path.name for path in taken.iterdir()] == ["checkpoints"]


def test_a_run_in_use_is_refused(stopped_run: Path) -> None:
    with (
        RunFolder(folder=stopped_run).lock(),
        pytest.raises(ConfigError, match="another process is training in this run"),
    ):
        launch.resume({}, out=stopped_run)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the folder of a run"):
        launch.resume({}, out=tmp_path)


def test_a_second_interrupt_leaves_at_once(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, handler))
    monkeypatch.setattr(TrainStep, "__call__", before_step(1, twice, TrainStep.__call__))
    with pytest.raises(KeyboardInterrupt):
        launch.train(settings(tiny_pack, BCE), out=tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    assert [event["event"] for event in read_events(tmp_path / "run" / "events.jsonl")] == ["start"]


def test_nothing_is_logged_in_a_run_that_goes_well(
    tiny_pack: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.loop.DATA_WAIT_LIMIT", 1.0)
    with caplog.at_level(logging.WARNING):
        launch.train(settings(tiny_pack, NVUM), out=tmp_path / "run")
    assert caplog.text == ""
