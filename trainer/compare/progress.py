"""What a person sees while a comparison works: a bar a run on a terminal, a line as each ends, the time still to go."""

import threading
from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pipeline.console import err
from trainer.compare.schedule import Failure
from trainer.compare.standing import Standing, StandingRun
from trainer.display import duration
from trainer.report.record import read_record
from trainer.run_folder import RunFolder

LOOK_EVERY_S = 1.0


class ComparisonProgress:
    """Follows the epochs of the runs in their files; writes to standard error."""

    def __init__(self, runs: Sequence[StandingRun], *, num_up_to_date: int) -> None:
        """Begin to measure.

        Args:
            runs: those that are worked on.
            num_up_to_date: how many more there are, of which nothing is left to do.
        """
        self._runs = {run.run.name: run for run in runs}
        self._num_all, self._num_ended = len(runs) + num_up_to_date, num_up_to_date
        self._begun_s = monotonic()
        self._at_first = {name: _epochs_done(run) for name, run in self._runs.items()}
        self._num_epochs = sum(run.config.run.epochs for run in runs)
        self._tasks: dict[str, TaskID] = {}
        self._over = threading.Event()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=err,
            disable=not err.is_terminal,
        )
        self._all = self._bars.add_task("all runs", total=self._num_epochs, left="")
        self._watcher = threading.Thread(target=self._follow, daemon=True)

    def begin(self, standing: StandingRun) -> None:
        """Show the bar of a run that begins."""
        name = standing.run.name
        self._tasks[name] = self._bars.add_task(name, total=standing.config.run.epochs, left="")

    def end(self, standing: StandingRun, failure: Failure | None) -> None:
        """Say how a run ended, and how long the others may take."""
        self._num_ended += 1
        name = standing.run.name
        self._bars.remove_task(self._tasks.pop(name))
        left = self._left()
        going_on = f"; about {left} to go" if left and self._num_ended < self._num_all else ""
        head = f"{self._num_ended} of {self._num_all}: {name}"
        if failure is not None:
            err.print(f"{head} FAILED{going_on}\n{failure.message}", style="red", markup=False)
        else:
            err.print(f"{head}, {_what_came_out(standing)}{going_on}", markup=False)

    def _follow(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            for name, task in list(self._tasks.items()):
                self._bars.update(task, completed=_epochs_done(self._runs[name]))
            done = sum(_epochs_done(run) for run in self._runs.values())
            left = self._left()
            self._bars.update(self._all, completed=done, left=f"{left} to go" if left else "")

    def _left(self) -> str:
        """Return how long it may still take by the epochs done so far; nothing before the first one."""
        done = {name: _epochs_done(run) for name, run in self._runs.items()}
        num_new = sum(done.values()) - sum(self._at_first.values())
        num_left = self._num_epochs - sum(done.values())
        if not (num_new and num_left):
            return ""
        return duration((monotonic() - self._begun_s) / num_new * num_left)

    def __enter__(self) -> Self:
        self._bars.start()
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._watcher.join()
        self._bars.stop()


def _epochs_done(standing: StandingRun) -> int:
    if standing.standing is Standing.FINISHED:
        return standing.config.run.epochs
    try:
        return RunFolder(folder=standing.run.folder).events_file.read_bytes().count(b'{"event": "epoch"')
    except OSError:
        return 0


def _what_came_out(standing: StandingRun) -> str:
    record = read_record(standing.run.folder)
    epochs = record.of_kind("epoch")
    took = duration(sum(epoch.get("epoch_s") or 0.0 for epoch in epochs))
    aurocs = [(epoch.get("valid_mean_auroc"), epoch["epoch"] + 1) for epoch in epochs]
    there = [(auroc, -epoch) for auroc, epoch in aurocs if auroc is not None]
    if not there:
        return f"{len(epochs)} epochs in {took}"
    auroc, epoch = max(there)
    return f"{len(epochs)} epochs in {took}, best AUROC on validation {auroc:.4f} at epoch {-epoch}"
