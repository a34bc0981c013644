"""How the ranks of a run end: one of them says why, in a line that is not buried, and the others leave quietly.

A rank that fails lets the others lose their connection to it. They neither fill the screen with that nor leave first:
torchrun calls the first to leave the root cause.
"""

import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist

from manifests.errors import UserError
from pipeline.console import USER_ERROR_EXIT_CODE, err, out
from trainer.quiet_start import wait_to_be_ended

_LOST = re.compile(r"gloo|NCCL|Connection (closed|reset) by peer|Broken pipe")


class SaidByRankZero(Exception):
    """An error that rank 0 reports for all."""


@contextmanager
def ending_in_order(rank: int) -> Iterator[None]:
    """Let this rank speak only where the fault is its own, and tell torchrun what it was.

    Raises:
        UserError, Exception: of this rank; with its number before it, unless it is rank 0.
        SystemExit: the fault is another rank's.
    """
    with _quiet(rank != 0):
        try:
            yield
        except SaidByRankZero:
            wait_to_be_ended()
            sys.exit(USER_ERROR_EXIT_CODE)
        except UserError as error:
            message = str(error) if rank == 0 else f"rank {rank}: {error}"
            _tell_launcher(f"error: {message}")
            if rank == 0:
                raise
            raise UserError(message) from error
        except Exception as error:
            if has_lost_a_rank(error):
                reason = str(error).split(". ")[0]
                err.quiet = False
                err.print(f"rank {rank}: another rank is gone, whose error counts ({reason})", markup=False)
                wait_to_be_ended()
                sys.exit(1)
            _tell_launcher(traceback.format_exc())  # torch itself prints the rank before each line
            raise


def has_lost_a_rank(error: Exception) -> bool:
    """Tell whether an error says that the connection to another rank broke: torch has no type of its own for that."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and _LOST.search(str(error)) is not None
    )


@contextmanager
def _quiet(is_quiet: bool) -> Iterator[None]:
    """Say nothing on either console and log no warning meanwhile, if asked."""
    before, disabled = (out.quiet, err.quiet), logging.root.manager.disable
    if is_quiet:
        out.quiet = err.quiet = True
        logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        out.quiet, err.quiet = before


def _tell_launcher(message: str) -> None:
    """Leave the message where torchrun looks for it: it then stands at the end of its own summary."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        extra = {"py_callstack": message, "timestamp": str(int(time.time()))}
        content = {"message": {"message": message, "extraInfo": extra}}
        Path(path).write_text(json.dumps(content), encoding="utf-8")
