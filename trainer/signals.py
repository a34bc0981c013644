"""A request to stop: SIGTERM (Slurm, a spot machine) or Ctrl-C lets the step finish and a checkpoint be written.

A signal may reach one process of several, and clocks differ: what stops a run or writes a checkpoint is agreed between
ranks every few steps, over the control group, which makes no GPU wait.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from trainer.distributed import Ranks
from trainer.quiet_start import asked_to_end

AGREE_EVERY_STEPS = 4
"""Steps between two agreements where there are several ranks: each waits for the slowest host."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Remembers the first signal to stop; a second Ctrl-C leaves at once. The old handlers come back at the end.

    Signals reach the main thread only; in any other thread nothing is installed and nothing is ever requested.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        """The signal that all ranks agreed to stop for."""
        self._received: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C; 0 for SIGTERM, which is a scheduler's: a job that stopped in order has not failed."""
        return 128 + signal.SIGINT if self.signal == signal.SIGINT else 0

    def agree(self, ranks: Ranks, *, is_due: bool = False) -> bool:
        """Let a signal that reached any rank stop all of them; return whether rank 0 finds that something is due."""
        number, due = ranks.largest(self._received or 0, is_due and ranks.is_first)
        self.signal = signal.Signals(number) if number else None
        return bool(due)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = self._received or signal.Signals(number)
        if number == signal.SIGTERM:
            asked_to_end.set()
