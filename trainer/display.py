"""What a person sees while a run trains: on a terminal a bar an epoch, everywhere a line an epoch; a view of events."""

import logging
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pipeline.console import err
from trainer.stopwatch import Pace

logger = logging.getLogger(__name__)


class Display:
    """Writes to standard error; the bar is silent where that is no terminal."""

    def __init__(self, *, num_epochs: int, steps_per_epoch: int, clock_s: Callable[[], float] = monotonic) -> None:
        """Begin to measure.

        Args:
            num_epochs: of the whole run.
            steps_per_epoch: of a whole epoch.
            clock_s: seconds that only go forwards.
        """
        self._num_epochs = num_epochs
        self._steps_per_epoch = steps_per_epoch
        self._clock_s = clock_s
        self._begun_s = clock_s()
        self._num_done = self._num_left = 0
        self._auroc: float | None = None
        self._task: TaskID | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
            console=err,
            disable=not err.is_terminal,
            transient=True,
        )

    def start_epoch(self, epoch: int, num_steps: int) -> None:
        """Show an empty bar of `num_steps` steps: those that the epoch still has."""
        self._num_left = num_steps + (self._num_epochs - epoch - 1) * self._steps_per_epoch
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(self._name(epoch), total=num_steps, figures="")

    def advance(self) -> None:
        """Move the bar by one step."""
        self._num_done += 1
        self._num_left -= 1
        if self._task is not None:
            self._progress.advance(self._task)

    def show(self, *, loss: float, pace: Pace) -> None:
        """Show the last figures beside the bar: those of the steps since the last time, AUROC of the last epoch."""
        if self._task is not None:
            auroc = "" if self._auroc is None else f"AUROC {self._auroc:.4f}, "
            figures = f"loss {loss:.4f}, {auroc}{_shown(pace)}{self._eta()}"
            self._progress.update(self._task, figures=figures)

    def end_epoch(self, epoch: int, *, loss: float, valid_mean_auroc: float | None, is_best: bool, pace: Pace) -> None:
        """Print the epoch's line."""
        self._auroc = valid_mean_auroc
        auroc = "n/a" if valid_mean_auroc is None else f"{valid_mean_auroc:.4f}"
        best = " (best)" if is_best and valid_mean_auroc is not None else ""
        err.print(
            f"{self._name(epoch)}: loss {loss:.4f}, validation mean AUROC {auroc}{best}, "
            f"trained in {pace.elapsed_s:.1f} s, {_shown(pace)}{self._eta()}",
            markup=False,
        )

    def warn(self, message: str) -> None:
        """Say a warning."""
        logger.warning(message)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def _name(self, epoch: int) -> str:
        return f"epoch {epoch + 1}/{self._num_epochs}"

    def _eta(self) -> str:
        """Return how long the run will still take, validation and checkpoints included, at its pace so far."""
        if not self._num_done or self._num_left <= 0:
            return ""
        seconds_a_step = (self._clock_s() - self._begun_s) / self._num_done
        return f", {duration(self._num_left * seconds_a_step)} left"


def duration(seconds: float) -> str:
    """Return a time as people say it: `8 s`, `3 min 20 s`, `5 h 07 min`, `2 d 03 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"


def _shown(pace: Pace) -> str:
    return f"{pace.images_per_s:,.0f} images/s, data wait {pace.data_wait_fraction:.0%}"
