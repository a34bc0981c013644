"""How a process learns which rank it is, and how it ends: who speaks, who waits, and with which exit code."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from manifests.errors import ConfigError, UserError
from pipeline import console
from trainer import quiet_start as starting
from trainer.distributed import ALONE, Ranks, launched_ranks
from trainer.rank_endings import SaidByRankZero, ending_in_order, has_lost_a_rank
from trainer.settle import device_of_rank

CPU = torch.device("cpu")

TORCHRUN = {
    "RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "1",
}


def test_torchruns_variables_say_who_this_is() -> None:
    assert launched_ranks(TORCHRUN) == Ranks(rank=1, world_size=4, local_rank=1, local_world_size=2)
    assert launched_ranks({}) == launched_ranks({"WORLD_SIZE": "1", "RANK": "0"}) == ALONE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RANK": ""}, "WORLD_SIZE=4, but RANK not set; start several processes by `torchrun"),
        ({"MASTER_ADDR": "", "MASTER_PORT": ""}, "but MASTER_ADDR, MASTER_PORT not set"),
        ({"RANK": "4"}, "RANK=4, WORLD_SIZE=4: expected 0 <= RANK < WORLD_SIZE"),
        ({"WORLD_SIZE": "many"}, "expected whole numbers"),
        ({"WORLD_SIZE": "0"}, "expected 0 <= RANK < WORLD_SIZE"),
    ],
)
def test_variables_that_make_no_sense_are_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        launched_ranks(TORCHRUN | change)
    assert message in str(error.value)


def test_each_rank_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    ranks = Ranks(rank=3, world_size=4, local_rank=1, local_world_size=2)
    assert device_of_rank("auto", ranks) == torch.device("cuda", 1)
    assert device_of_rank("cuda:1", ALONE) == torch.device("cuda", 1)
    assert device_of_rank("cpu", ranks) == CPU
    with pytest.raises(ConfigError, match=r"run\.device=cuda:0: one GPU for 4 processes"):
        device_of_rank("cuda:0", ranks)
    with pytest.raises(ConfigError, match=r"3 processes on a machine with 2 CUDA devices.*--nproc-per-node 2"):
        device_of_rank("cuda", Ranks(rank=2, world_size=3, local_rank=2, local_world_size=3))


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer"), True),
        (torch.distributed.DistBackendError("NCCL error"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("gloo"), False),
    ],
)
def test_a_lost_connection_is_told_from_a_fault(error: Exception, is_lost: bool) -> None:
    assert has_lost_a_rank(error) == is_lost


@pytest.mark.parametrize(("rank", "message"), [(0, "the disk is full"), (1, "rank 1: the disk is full")])
def test_an_error_of_one_rank_alone_names_it_and_reaches_torchruns_report(
    rank: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    with pytest.raises(UserError) as error, ending_in_order(rank):
        raise ConfigError("the disk is full")
    assert str(error.value) == message
    written = json.loads((tmp_path / "error.json").read_text())["message"]
    assert written["message"] == written["extraInfo"]["py_callstack"] == f"error: {message}"


@pytest.mark.parametrize(
    ("error", "code"), [(SaidByRankZero(), 2), (RuntimeError("[gloo/pair.cc] Connection closed by peer"), 1)]
)
def test_a_rank_without_a_fault_of_its_own_leaves_after_the_others(
    error: Exception, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited = []
    monkeypatch.setattr("trainer.rank_endings.wait_to_be_ended", lambda: waited.append(True))
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))

    def fail() -> None:
        console.err.print("nobody reads this")
        raise error

    with pytest.raises(SystemExit) as ending, ending_in_order(1):
        fail()
    assert (ending.value.code, waited) == (code, [True])
    assert not (tmp_path / "error.json").exists(), "the launcher looks for the cause elsewhere"
    said = capsys.readouterr().err
    assert "nobody reads this" not in said
    assert not console.err.quiet
    assert ("rank 1: another rank is gone" in said) == (code == 1)


@pytest.mark.parametrize(("code", "is_shown"), [(2, False), (0, False), (None, True)])
def test_a_mistake_in_the_command_line_is_not_said_by_other_ranks(
    code: int | None, is_shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited = []
    monkeypatch.setattr(starting, "wait_to_be_ended", lambda: waited.append(True))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with nullcontext() if code is None else pytest.raises(SystemExit), starting.quiet_start():
        if code is None:
            starting.speak()
        print("usage: ...")
        if code is not None:
            sys.exit(code)
    assert ("usage" in capsys.readouterr().out) == is_shown
    assert waited == ([True] if code == 2 else [])


class Left(BaseException):
    """What `os._exit` does here: nothing after it runs."""


@pytest.fixture
def still_connected(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def leave(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr(os, "_exit", leave)
    starting.connections_left_open.set()
    yield
    starting.connections_left_open.clear()


@pytest.mark.usefixtures("still_connected")
@pytest.mark.parametrize(("code", "left_with"), [(2, 2), (0, 0), (None, 0), ("a text", 1)])
def test_a_process_that_is_still_connected_leaves_at_once_with_its_code(code: object, left_with: int) -> None:
    with pytest.raises(Left) as ending, starting.leaving_at_once():
        sys.exit(code)  # type: ignore[arg-type]
    assert ending.value.args == (left_with,)


@pytest.mark.usefixtures("still_connected")
def test_a_fault_is_shown_before_a_process_leaves_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Left) as ending, starting.leaving_at_once():
        raise ZeroDivisionError("a fault of the program")
    assert ending.value.args == (1,)
    assert "ZeroDivisionError: a fault of the program" in capsys.readouterr().err


def test_a_process_without_connections_ends_as_any_other() -> None:
    with pytest.raises(SystemExit) as ending, starting.leaving_at_once():
        sys.exit(2)
    assert ending.value.code == 2
    with pytest.raises(ZeroDivisionError), starting.leaving_at_once():
        raise ZeroDivisionError
