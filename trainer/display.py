"""What a person sees while a run trains: on a terminal a bar an epoch, everywhere a line an epoch; a view of events."""

import logging
from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pipeline.console import err
from trainer.stopwatch import Pace

logger = logging.getLogger(__name__)


class Display:
    """Writes to standard error; the bar is silent where that is no terminal."""

    def __init__(self, *, num_epochs: int) -> None:
        self._num_epochs = num_epochs
        self._task: TaskID | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=err,
            disable=not err.is_terminal,
            transient=True,
        )

    def start_epoch(self, epoch: int, num_steps: int) -> None:
        """Show an empty bar of `num_steps` steps."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(self._name(epoch), total=num_steps, figures="")

    def advance(self) -> None:
        """Move the bar by one step."""
        if self._task is not None:
            self._progress.advance(self._task)

    def show(self, *, loss: float, pace: Pace) -> None:
        """Show the last figures beside the bar."""
        if self._task is not None:
            figures = f"loss {loss:.4f}, {_shown(pace)}"
            self._progress.update(self._task, figures=figures)

    def end_epoch(self, epoch: int, *, loss: float, valid_mean_auroc: float | None, is_best: bool, pace: Pace) -> None:
        """Print the epoch's line."""
        auroc = "n/a" if valid_mean_auroc is None else f"{valid_mean_auroc:.4f}"
        best = " (best)" if is_best and valid_mean_auroc is not None else ""
        err.print(
            f"{self._name(epoch)}: loss {loss:.4f}, validation mean AUROC {auroc}{best}, "
            f"trained in {pace.elapsed_s:.1f} s, {_shown(pace)}",
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


def _shown(pace: Pace) -> str:
    return f"{pace.images_per_s:,.0f} images/s, data wait {pace.data_wait_fraction:.0%}"
