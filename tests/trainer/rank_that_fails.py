"""`cxr-train` whose rank 1 ends before its third step: `-m tests.trainer.rank_that_fails crash|kill|ask OPTIONS`.

Only when it is started for the first time, not when torchrun starts it again.
"""

import os
import signal
import sys
from unittest.mock import patch

from tests.trainer.tiny_runs import before_step
from trainer.cli import main
from trainer.step import TrainStep


def crash() -> None:
    raise ZeroDivisionError("a fault of rank 1 alone")


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ask() -> None:
    os.kill(os.getppid(), signal.SIGTERM)  # torchrun, which passes it on to all ranks


if __name__ == "__main__":
    act = {"crash": crash, "kill": kill, "ask": ask}[sys.argv.pop(1)]
    call = TrainStep.__call__
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        call = before_step(2, act, call)
    with patch.object(TrainStep, "__call__", call):
        main()
