"""SIGKILL of either of two processes, again and again, costs time and never a bit."""

import random
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import torch

from tests.trainer.tiny_runs import NVUM, PROCESSES, assert_same_run, settings
from trainer import launch
from trainer.distributed import Ranks, joined_ranks
from trainer.events import last_event
from trainer.sections import Values

PATIENCE_S = 120.0

NUM_KILLS = 5


def train_or_resume(rank: int, meet: Path, asked: Values, out: Path) -> None:
    torch.set_num_threads(1)
    with joined_ranks(Ranks(rank=rank, world_size=2), init_method=f"file://{meet}") as ranks:
        launch.train_or_resume(asked, out=out, ranks=ranks)


def start(asked: Values, out: Path) -> list[Any]:
    """Two processes that go on with the run in `out`, or begin it."""
    meet = out.with_name(f"{out.name}-{monotonic()}")
    processes = [PROCESSES.Process(target=train_or_resume, args=(rank, meet, asked, out)) for rank in range(2)]
    for process in processes:
        process.start()
    return processes


def wait(processes: list[Any]) -> list[int]:
    for process in processes:
        process.join(PATIENCE_S)
        assert process.exitcode is not None, "a process outlives the other one"
    return [process.exitcode for process in processes]


def num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.soak
@pytest.mark.parametrize("seed", [40, 41])
def test_sigkill_of_one_of_two_processes_and_resume_is_bitwise(seed: int, tiny_pack: Path, tmp_path: Path) -> None:
    asked = settings(
        tiny_pack,
        NVUM,
        loader={"batch_size": 2},
        run={"epochs": 3, "checkpoint_every_steps": 3, "log_every_steps": 1},
    )
    assert wait(start(asked, tmp_path / "undisturbed")) == [0, 0]
    out, dice = tmp_path / "run", random.Random(seed)
    for _ in range(NUM_KILLS):
        before = num_lines(out / "events.jsonl")
        processes = start(asked, out)
        give_up = monotonic() + PATIENCE_S
        while num_lines(out / "events.jsonl") < before + 2 and monotonic() < give_up:
            sleep(0.001)
        sleep(dice.random() * 0.05)
        processes[dice.randrange(2)].kill()
        assert wait(processes) != [0, 0]
    last = last_event(out / "events.jsonl")
    assert last is None or last["event"] != "end", "killed before it was done"
    assert wait(start(asked, out)) == [0, 0]
    assert_same_run(tmp_path / "undisturbed", out)
