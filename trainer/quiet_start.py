"""Before the processes of a run have met: what all of them would say alike, a mistake in the command line, rank 0 says.

Imports nothing slow: `--help` must not wait for torch.
"""

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from pipeline.console import set_up_logging

GRACE_S = 5.0
"""Seconds that a process without a fault of its own waits for the launcher to end it."""

asked_to_end = threading.Event()
"""Set by a SIGTERM that came while this process still hoped to go on."""

connections_left_open = threading.Event()
"""Set where a failure left connections to other ranks as they were: closing them could wait for a rank that is gone."""

_streams: list[tuple[TextIO, TextIO]] = []


@contextmanager
def quiet_start() -> Iterator[None]:
    """Drop what a rank other than 0 prints until it calls `speak`; a fault of the program is shown all the same."""
    if os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    _streams.append((sys.stdout, sys.stderr))
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    try:
        yield
    except SystemExit as ending:
        if _streams and ending.code:
            wait_to_be_ended()  # rank 0 says why, and leaves first
        raise
    finally:
        speak()


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """End the process without Python's tidying where `connections_left_open`.

    Threads that still serve those connections while the interpreter is taken down end it now and then with SIGABRT, and
    torchrun then reports that instead of the exit code.
    """
    try:
        yield
    except SystemExit as ending:
        if connections_left_open.is_set():
            _leave(ending.code if isinstance(ending.code, int) else int(ending.code is not None))
        raise
    except Exception:
        if connections_left_open.is_set():
            sys.excepthook(*sys.exc_info())
            _leave(1)
        raise


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def speak() -> None:
    """From here on what this process prints is seen."""
    if _streams:
        sys.stdout, sys.stderr = _streams.pop()
        set_up_logging()


def wait_to_be_ended() -> None:
    """Wait for the launcher's SIGTERM, and leave without a fault when it comes: another process has one."""

    def leave(number: int, frame: FrameType | None) -> None:
        os._exit(0)

    sys.stdout.flush()
    sys.stderr.flush()
    if asked_to_end.is_set():
        os._exit(0)
    signal.signal(signal.SIGTERM, leave)
    time.sleep(GRACE_S)
