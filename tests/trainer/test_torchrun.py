"""`torchrun -m trainer.cli`: how several processes end, what is seen of it, and how soon."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.trainer.tiny_runs import newest_checkpoint, own_events
from trainer.checkpoint import read_checkpoint
from trainer.events import read_events

PATIENCE_S = 120.0

END_WITHIN_S = 30.0
"""Seconds after a rank failed within which all processes are gone."""


def torchrun(
    pack: Path, out: Path, *arguments: str, act: str = "", launcher: Sequence[str] = ("--standalone",)
) -> subprocess.CompletedProcess[str]:
    """Two processes on a tiny pack, 8 steps an epoch, and a checkpoint after each."""
    module = ["tests.trainer.rank_that_fails", act] if act else ["trainer.cli"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *launcher]
    command += ["-m", *module, "--pack", str(pack), "--out", str(out)]
    command += ["--model", "small", "--set", "loader.batch_size=2", "--set", "run.checkpoint_every_steps=1"]
    command += ["--set", "run.device=cpu", "--set", "run.num_threads=1", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def assert_it_ended_soon_and_left_checkpoints(run: Path) -> None:
    """The last checkpoint was written right before the rank failed; it and the others are whole."""
    paths = list((run / "checkpoints").glob("*.pt"))
    assert time.time() - max(path.stat().st_mtime for path in paths) < END_WITHIN_S
    assert newest_checkpoint(run)["cursor"]["step"] == 2
    for path in paths:
        read_checkpoint(path)


def test_a_fault_of_one_rank_ends_all_soon_with_its_own_traceback(tiny_pack: Path, tmp_path: Path) -> None:
    result = torchrun(tiny_pack, tmp_path / "run", "--epochs", "100000", act="crash")
    assert_it_ended_soon_and_left_checkpoints(tmp_path / "run")
    ours, summary = result.stderr.split("ChildFailedError", 1)
    assert result.returncode != 0
    assert ours.count("[rank1]: ZeroDivisionError: a fault of rank 1 alone") == 1
    assert ours.count("Traceback (most recent call last)") == 2, "rank 1's and torchrun's own"
    assert "rank      : 1 (local_rank: 1)" in summary.split("Root Cause")[1]
    assert "ZeroDivisionError: a fault of rank 1 alone" in summary
    assert "<NO_OTHER_FAILURES>" in summary, "rank 0 left in order"


def test_a_killed_rank_ends_all_soon_and_torchrun_names_the_signal(tiny_pack: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = torchrun(tiny_pack, run, "--epochs", "2", act="kill")
    assert_it_ended_soon_and_left_checkpoints(run)
    assert result.returncode != 0
    assert "rank 0: another rank is gone, whose error counts" in result.stderr
    assert "Signal 9 (SIGKILL) received by PID" in result.stderr.split("Root Cause")[1]
    assert "<NO_OTHER_FAILURES>" in result.stderr


def test_torchrun_starts_a_killed_run_again_and_it_goes_on(tiny_pack: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    launcher = ["--max-restarts", "1", "--master-port", str(port)]  # the way of starting that keeps its store
    result = torchrun(tiny_pack, run, "--epochs", "2", "--resume", "auto", act="kill", launcher=launcher)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("next: cxr-train evaluate") == 1, "one rank speaks"
    assert [event["event"] for event in read_events(run / "events.jsonl")].count("resume") == 1
    assert own_events(run)[-1]["event"] == "end"
    assert (run / "report.html").is_file()


def test_sigterm_to_torchrun_writes_one_checkpoint_and_names_the_way_on(tiny_pack: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = torchrun(tiny_pack, run, "--epochs", "100000", act="ask")
    assert result.stdout == f"stopped; go on with: torchrun --nproc-per-node 2 -m trainer.cli --resume --out {run}\n"
    *_, last = read_events(run / "events.jsonl")
    assert (last["event"], last["signal"]) == ("stop", "SIGTERM")
    assert newest_checkpoint(run)["cursor"]["step"] == last["step"]
    assert "ChildFailedError" not in result.stderr, "every rank ended with 0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "optim.wieght_decay=1"], "error: --set optim.wieght_decay=1: section optim has no key"),
        (["--epochs", "many"], "Invalid value for '--epochs'"),
    ],
)
def test_a_mistake_is_said_once(arguments: list[str], message: str, tiny_pack: Path, tmp_path: Path) -> None:
    result = torchrun(tiny_pack, tmp_path / "run", *arguments)
    ours, summary = result.stderr.split("ChildFailedError", 1)
    assert ours.count(message) == 1
    cause = summary.split("Root Cause")[1]
    assert "rank      : 0" in cause
    assert "exitcode  : 2" in cause
    assert not message.startswith("error") or message in cause
    assert not (tmp_path / "run").exists()
