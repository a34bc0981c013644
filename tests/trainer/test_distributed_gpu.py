"""Two GPUs, NCCL and a synchronised BatchNorm: a run and its resumption."""

import math
from pathlib import Path

import pytest
import torch

from tests.trainer.test_torchrun import torchrun
from tests.trainer.tiny_runs import own_events
from trainer.events import read_events

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two NVIDIA GPUs"),
]


@pytest.mark.parametrize("synchronised", ["true", "false"])
def test_two_gpus_stop_and_go_on(synchronised: str, tiny_pack: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--epochs", "2", "--resume", "auto", "--set", f"step.sync_batchnorm={synchronised}"]
    options += ["--set", "run.device=cuda"]
    torchrun(tiny_pack, run, *options, act="ask")
    *_, last = read_events(run / "events.jsonl")
    assert last["event"] == "stop"
    result = torchrun(tiny_pack, run, *options)
    assert result.returncode == 0, result.stderr
    epochs = [event for event in own_events(run) if event["event"] == "epoch"]
    assert [event["num_samples"] for event in epochs] == [30, 30]
    assert all(math.isfinite(event["loss"]) for event in epochs)


def test_a_killed_rank_ends_the_other(tiny_pack: Path, tmp_path: Path) -> None:
    result = torchrun(tiny_pack, tmp_path / "run", "--set", "run.device=cuda", act="kill")
    assert result.returncode != 0
    assert "Signal 9 (SIGKILL) received by PID" in result.stderr
