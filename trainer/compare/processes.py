"""Child processes of a comparison: `cxr-train` as one types it, its output in a file, stopped together."""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGTERM, Signals

ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
"""Makes glibc keep the memory that a training step frees and the next one needs: three epochs of NVUM took 0.4 s of
system time instead of 2.4 s, beside 13 s of user time. Other C libraries ignore it."""

TAIL_LINES = 12
"""Lines of a failed process that are shown."""


class RunFailed(Exception):
    """A child ended with an error; holds the last lines that it wrote."""


class RunStopped(Exception):
    """A child was asked to stop, or never begun."""


class Processes:
    """Starts children and remembers them, so that one call stops all.

    Each child is the head of a session of its own: Ctrl-C reaches this process alone, which passes on a SIGTERM, for
    which a training writes a checkpoint.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def cxr_train(self, *arguments: str, log: Path, environment: Mapping[str, str]) -> None:
        """Run `cxr-train` with the arguments to its end; what it writes is appended to `log`.

        Raises:
            RunFailed: it ended with an error.
            RunStopped: `stop` was called before or meanwhile.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            begun_at = file.tell()
            with self._lock:
                if self._stopped:
                    raise RunStopped
                child = subprocess.Popen(
                    [sys.executable, "-m", "trainer.cli", *arguments],
                    env=os.environ | ALLOCATOR | dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                self._running.add(child)
            try:
                code = child.wait()
            finally:
                with self._lock:
                    self._running.discard(child)
        if self._stopped:
            raise RunStopped
        if code:
            raise RunFailed(_ending(arguments, code, log, begun_at))

    def stop(self, number: int = SIGTERM) -> None:
        """Send a signal to every child, and start no other."""
        with self._lock:
            self._stopped = True
            for child in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, number)


def _ending(arguments: Sequence[str], code: int, log: Path, begun_at: int) -> str:
    """Return how a child ended and what it wrote last."""
    how = f"was ended by {Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    with log.open("rb") as file:
        file.seek(begun_at)
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join([f"`cxr-train {' '.join(arguments)}` {how}", *(f"  {line}" for line in lines[-TAIL_LINES:])])


def shared_threads(jobs: int, cores: int) -> int:
    """Return how many threads each of `jobs` processes gets."""
    return max(1, cores // jobs)
