"""SIGKILL at any moment, also inside the write of a checkpoint, costs time and never a bit."""

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import torch

from tests.trainer.tiny_runs import NVUM, PROCESSES, assert_same_run, newest_checkpoint, settings
from trainer import launch
from trainer.checkpoint import read_checkpoint
from trainer.run_folder import RunFolder
from trainer.sections import Values

PATIENCE_S = 120.0


def train_or_resume(asked: Values, out: Path, sabotage: Callable[[], None] | None) -> None:
    """What a training process does; `sabotage` prepares its death."""
    if sabotage is not None:
        sabotage()
    if (out / "config.json").is_file():
        launch.resume({}, out=out)
    else:
        launch.train(asked, out=out)


def start(asked: Values, out: Path, sabotage: Callable[[], None] | None = None) -> Any:
    process = PROCESSES.Process(target=train_or_resume, args=(asked, out, sabotage))
    process.start()
    return process


def wait(process: Any) -> int:
    process.join(PATIENCE_S)
    assert process.exitcode is not None, "the training process hangs"
    code: int = process.exitcode
    return code


def kill_self(*arguments: Any, **keywords: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class KillInSave:
    """Makes the `number`-th `torch.save` write half of its file and die."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self) -> None:
        save, calls = torch.save, iter(range(1, 1000))

        def half_save(content: Any, path: Path) -> None:
            save(content, path)
            if next(calls) == self.number:
                os.truncate(path, path.stat().st_size // 2)
                kill_self()

        torch.save = half_save  # type: ignore[assignment]


class KillInRename:
    """Makes the `number`-th `os.replace` die, before it renames or right after."""

    def __init__(self, number: int, *, after: bool) -> None:
        self.number = number
        self.after = after

    def __call__(self) -> None:
        replace, calls = os.replace, iter(range(1, 1000))

        def last_replace(source: Path, target: Path) -> None:
            is_last = next(calls) == self.number
            if is_last and not self.after:
                kill_self()
            replace(source, target)
            if is_last:
                kill_self()

        os.replace = last_replace  # type: ignore[assignment]


@pytest.fixture(scope="module")
def asked(tiny_pack: Path) -> Values:
    """Four epochs of four steps, with a checkpoint every third step."""
    return settings(tiny_pack, NVUM, run={"epochs": 4, "checkpoint_every_steps": 3, "log_every_steps": 1})


@pytest.fixture(scope="module")
def undisturbed(asked: Values, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happens to."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    assert wait(start(asked, out)) == 0
    return out


def num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("seed", [20, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(21, 30))])
def test_sigkill_at_random_moments_and_resume_is_bitwise(
    seed: int, asked: Values, undisturbed: Path, tmp_path: Path
) -> None:
    out, dice = tmp_path / "run", random.Random(seed)
    num_kills = 0
    while num_kills < 5:
        process = start(asked, out)
        # A random event of the history, then a random part of a step.
        target = num_lines(out / "events.jsonl") + dice.randint(1, 3)
        give_up = monotonic() + PATIENCE_S
        while process.is_alive() and num_lines(out / "events.jsonl") < target and monotonic() < give_up:
            sleep(0.001)
        sleep(dice.random() * 0.005)
        if not process.is_alive():
            break
        process.kill()
        assert wait(process) == -signal.SIGKILL
        num_kills += 1
    assert wait(start(asked, out)) == 0
    assert num_kills == 5
    assert_same_run(undisturbed, out)


@pytest.mark.parametrize(
    "sabotages",
    [
        # Within the first epoch's checkpoints: one of steps, the best, the epoch's own; then again after the resume.
        pytest.param([KillInSave(1), KillInSave(2), KillInSave(4)], id="half-written"),
        pytest.param([KillInRename(2, after=False), KillInRename(3, after=False)], id="before-rename"),
        pytest.param([KillInRename(3, after=True), KillInRename(2, after=True)], id="after-rename"),
    ],
)
def test_sigkill_inside_a_checkpoint_write_is_bitwise(
    sabotages: list[Callable[[], None]], asked: Values, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for sabotage in sabotages:
        assert wait(start(asked, out, sabotage)) == -signal.SIGKILL
        for path in RunFolder(folder=out).checkpoints.newest_first():
            read_checkpoint(path)  # raises for a part of one
    assert wait(start(asked, out)) == 0
    assert_same_run(undisturbed, out)
    left = [path.name for path in (out / "checkpoints").iterdir() if path.name.startswith(".")]
    assert left == [], "a half-written file was left behind"


def test_the_undisturbed_run_has_the_bits_of_one_in_another_process(
    asked: Values, undisturbed: Path, tmp_path: Path
) -> None:
    launch.train(asked, out=tmp_path / "run")
    assert_same_run(undisturbed, tmp_path / "run")
    assert newest_checkpoint(undisturbed)["cursor"] == {"epoch": 4, "consumed": 0, "step": 16}
    assert json.loads((undisturbed / "config.json").read_text())["run"]["num_threads"] == 1
