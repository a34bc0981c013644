"""What must hold of every training run, whatever the numbers are."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from manifests.label_spaces import NVUM_NIH
from manifests.selection import select
from pipeline.loaders import open_loader
from pipeline.pack import open_pack
from tests.trainer.tiny_runs import (
    BCE,
    METHODS,
    NVUM,
    assert_same_run,
    different_leaves,
    newest_checkpoint,
    own_events,
    repacked,
    settings,
    with_column,
)
from trainer import launch
from trainer.checkpoint import read_checkpoint
from trainer.config import TrainConfig
from trainer.evaluation.metrics import measure
from trainer.events import read_events
from trainer.inference import infer
from trainer.run_folder import RunFolder
from trainer.schedule import learning_rate
from trainer.sections import Values
from trainer.trained_model import load_trained_model


def train(folder: Path, asked: dict[str, dict[str, Any]]) -> Path:
    outcome = launch.train(asked, out=folder)
    assert outcome.finished
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_bits_and_another_seed_others(method: str, tiny_pack: Path, tmp_path: Path) -> None:
    asked = settings(tiny_pack, METHODS[method])
    one, other = (train(tmp_path / name, asked) for name in ("one", "other"))
    assert_same_run(one, other)
    third = train(tmp_path / "third", settings(tiny_pack, METHODS[method], run={"seed": 1}))
    assert any(
        name.startswith(".student") for name in different_leaves(newest_checkpoint(one), newest_checkpoint(third))
    )
    assert own_events(one) != own_events(third)


def test_reg_weight_zero_without_teacher_equals_bce(tiny_pack: Path, tmp_path: Path) -> None:
    bce = train(tmp_path / "bce", settings(tiny_pack, BCE))
    without: Values = {"loss": {"name": "nvum", "reg_weight": 0.0}, "ema": {"enabled": "off"}}
    nvum = train(tmp_path / "nvum", settings(tiny_pack, without))
    for part in ("student", "optimiser"):
        assert different_leaves(newest_checkpoint(bce)[part], newest_checkpoint(nvum)[part]) == []
    for one, other in zip(own_events(bce), own_events(nvum), strict=True):
        assert one | {"reg": None} == other | {"reg": None}


def test_an_ema_teacher_beside_bce_leaves_the_student_alone(tiny_pack: Path, tmp_path: Path) -> None:
    bce = newest_checkpoint(train(tmp_path / "bce", settings(tiny_pack, BCE)))
    with_teacher = newest_checkpoint(train(tmp_path / "ema", settings(tiny_pack, METHODS["bce-ema"])))
    assert different_leaves(bce["student"], with_teacher["student"]) == []
    assert bce["teacher"] is None
    assert different_leaves(with_teacher["student"], with_teacher["teacher"]) != []


def test_the_memory_holds_the_training_selection_and_nothing_else(tiny_pack: Path, tmp_path: Path) -> None:
    memory = newest_checkpoint(train(tmp_path / "run", settings(tiny_pack, NVUM)))["memory"]
    pack = open_pack(tiny_pack)
    selected = select(pack.manifest(), NVUM_NIH, "train", pack.rejected).sample_index_n
    written = np.flatnonzero(memory["previous_NC"].abs().sum(dim=1).numpy())
    assert np.array_equal(written, selected)
    assert memory["previous_NC"].shape == (64, 14)
    assert not memory["touched_N"].any(), "the last epoch's memory was not closed"


@pytest.mark.parametrize("method", ["bce", "nvum"])
def test_raw_and_reference_loaders_train_to_the_same_bits(method: str, tiny_pack: Path, tmp_path: Path) -> None:
    raw, reference = (
        train(tmp_path / backend, settings(tiny_pack, METHODS[method], loader={"backend": backend}))
        for backend in ("raw", "reference")
    )
    checkpoints = [newest_checkpoint(run) for run in (raw, reference)]
    assert different_leaves(*checkpoints) == [".config.loader.backend"]
    assert own_events(raw) == own_events(reference)


def test_the_learning_rate_is_that_of_the_schedule(tiny_pack: Path, tmp_path: Path) -> None:
    schedule = {"name": "step", "milestones": [0.5], "gamma": 0.1, "warmup_epochs": 0.5}
    run = train(tmp_path / "run", settings(tiny_pack, BCE, schedule=schedule, run={"log_every_steps": 1}))
    config: TrainConfig = RunFolder(folder=run).read_config()
    rates = {event["step"]: event["lr"] for event in own_events(run) if event["event"] == "train"}
    assert rates == {step + 1: learning_rate(step, 8, 4, config.schedule, 0.01) for step in range(8)}
    assert len(set(rates.values())) == 3


def test_best_pt_is_the_epoch_that_validation_liked_best(tiny_pack: Path, tmp_path: Path) -> None:
    run = train(tmp_path / "run", settings(tiny_pack, NVUM, run={"epochs": 5}))
    epochs = [event for event in own_events(run) if event["event"] == "epoch"]
    aurocs = [event["valid_mean_auroc"] for event in epochs]
    best = int(np.argmax(aurocs))
    assert [event["is_best"] for event in epochs] == [max([-1.0, *aurocs[:k]]) < aurocs[k] for k in range(5)]
    end = own_events(run)[-1]
    assert (end["best_epoch"], end["best_valid_mean_auroc"]) == (best, aurocs[best])

    # What is in best.pt measures on the validation rows what the history says of that epoch.
    trained = load_trained_model(run)
    pack = open_pack(tiny_pack)
    valid = select(pack.manifest(), NVUM_NIH, "valid", pack.rejected)
    with open_loader(trained.config.loader, pack=pack, sample_index_n=valid.sample_index_n, seed=0) as loader:
        index_n, probs_nC = infer(trained.module, loader, trained.prepare, autocast=trained.autocast)
    assert np.array_equal(index_n, valid.sample_index_n)
    metrics = measure(probs_nC, valid.targets_NC[index_n], valid.mask_NC[index_n], NVUM_NIH.findings)
    assert metrics.mean_auroc == aurocs[best]


def test_without_validation_rows_it_says_so_once_and_keeps_the_last_epoch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pack = repacked(tmp_path, lambda table: with_column(table, "split", pa.array(["train"] * len(table))))
    with caplog.at_level(logging.WARNING):
        run = train(tmp_path / "run", settings(pack, BCE, run={"epochs": 3}))
    assert caplog.text.count("there are no validation rows") == 1
    best = read_checkpoint(run / "checkpoints" / "best.pt")
    assert best["best"] == {"epoch": 2, "valid_mean_auroc": None}
    assert different_leaves(best["student"], newest_checkpoint(run)["student"]) == []
    assert all(event["valid_mean_auroc"] is None for event in own_events(run) if event["event"] == "epoch")


def test_only_the_newest_two_checkpoints_and_the_best_stay(tiny_pack: Path, tmp_path: Path) -> None:
    run = train(tmp_path / "run", settings(tiny_pack, BCE, run={"checkpoint_every_steps": 1}))
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["best.pt", "step-00000007.pt", "step-00000008.pt"]


def test_checkpoints_come_by_the_clock_too(tiny_pack: Path, tmp_path: Path) -> None:
    run = train(tmp_path / "run", settings(tiny_pack, BCE, run={"checkpoint_every_minutes": 1e-9}))
    assert [path.name for path in RunFolder(folder=run).checkpoints.newest_first()][1] == "step-00000007.pt"


def test_a_checkpoint_in_between_changes_no_bit(tiny_pack: Path, tmp_path: Path) -> None:
    seldom, often = (
        train(tmp_path / str(steps), settings(tiny_pack, NVUM, run={"checkpoint_every_steps": steps}))
        for steps in (0, 1)
    )
    names = different_leaves(newest_checkpoint(seldom), newest_checkpoint(often))
    assert names == [".config.run.checkpoint_every_steps"]
    assert own_events(seldom) == own_events(often)


def test_clipping_bounds_the_step_of_plain_sgd(tiny_pack: Path, tmp_path: Path) -> None:
    lr, clip_norm = 0.5, 0.01
    asked = settings(
        tiny_pack,
        BCE,
        optim={"name": "sgd", "lr": lr, "momentum": 0.0},
        schedule={"name": "constant"},
        step={"clip_norm": clip_norm},
        run={"epochs": 1, "checkpoint_every_steps": 1},
    )
    run = train(tmp_path / "run", asked)
    after, before = (read_checkpoint(path)["student"] for path in RunFolder(folder=run).checkpoints.newest_first())
    # Buffers are no parameters: batch statistics move freely.
    moved = [after[name] - before[name] for name in after if "running" not in name and "num_batches" not in name]
    norm = float(torch.cat([tensor.flatten().double() for tensor in moved]).norm())
    assert 0 < norm <= lr * clip_norm * 1.001


def test_bf16_trains_on_the_cpu_and_differs_from_fp32(tiny_pack: Path, tmp_path: Path) -> None:
    runs = [train(tmp_path / name, settings(tiny_pack, NVUM, step={"precision": name})) for name in ("fp32", "bf16")]
    events = [own_events(run) for run in runs]
    assert events[0] != events[1]
    assert events[1][0]["loss"] == pytest.approx(events[0][0]["loss"], abs=0.05)


def test_a_batch_larger_than_the_selection_is_one_step_an_epoch(tiny_pack: Path, tmp_path: Path) -> None:
    run = train(tmp_path / "run", settings(tiny_pack, NVUM, loader={"batch_size": 1000}))
    assert newest_checkpoint(run)["cursor"] == {"epoch": 2, "consumed": 0, "step": 2}


def test_waiting_for_data_is_said_once(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trainer.loop.DATA_WAIT_LIMIT", -1.0)
    with caplog.at_level(logging.WARNING):
        run = train(tmp_path / "run", settings(tiny_pack, BCE, run={"epochs": 3}))
    assert caplog.text.count("training waited for data") == 1
    assert "`cxr-train profile`, with the options of this run, says why" in caplog.text
    assert sum(event["event"] == "warning" for event in read_events(run / "events.jsonl")) == 1


def test_config_json_has_every_choice_made(tiny_pack: Path, tmp_path: Path) -> None:
    run = train(tmp_path / "run", settings(tiny_pack, NVUM, run={"device": "auto", "num_threads": 0, "epochs": 1}))
    config = json.loads((run / "config.json").read_text())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert config["data"]["pack"] == str(tiny_pack.resolve())
    assert config["model"]["input_size_px"] == 32
    assert config["ema"]["enabled"] == "on"
    assert config["run"]["device"] == device
    assert config["run"]["num_threads"] == len(os.sched_getaffinity(0))
    assert config["step"]["precision"] != "auto"
