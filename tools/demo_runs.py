"""Trainings of the demo, side by side, through the real command lines; a view of their epochs meanwhile."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from manifests.findings import NO_FINDING
from pipeline.console import err, progress_bar
from trainer.evaluation.metrics import mean_of
from trainer.events import read_events

MIN_POSITIVES = 20
"""Findings with fewer positives among the clean test labels are in no mean: their AUROC is mostly chance."""


class CommandError(Exception):
    """A command of the demo failed; holds what it printed."""


@dataclass(frozen=True, kw_only=True)
class DemoRun:
    """One training and how it is evaluated."""

    method: str
    """What the table calls it."""

    folder: Path
    """The run's folder."""

    arguments: tuple[str, ...]
    """Arguments of `cxr-train`."""

    evaluation: tuple[str, ...]
    """Further arguments of `cxr-train evaluate`: which labels, which pack."""


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What came out of one run."""

    run: DemoRun
    """The run."""

    auroc: dict[str, float | None]
    """Checkpoint -> mean AUROC on clean test labels over the findings with enough positives; None: there is none."""

    num_findings: int
    """How many findings those are."""

    num_images: int
    """Test images that were measured."""

    best_epoch: int
    """Epoch that validation on noisy labels chose, counted from 1."""

    num_epochs: int
    """Epochs trained."""

    elapsed_s: float
    """Training and evaluation."""


def command(module: str, *arguments: str, home: Path, quiet: bool = False) -> None:
    """Run one of the project's command lines in a process of its own, as a user would; shown unless `quiet`.

    Raises:
        CommandError: it failed.
    """
    line = f"{COMMANDS[module]} {' '.join(arguments)}"
    if not quiet:
        err.print(f"$ {line}", style="bold", markup=False)
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | ALLOCATOR | {"CXR_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CommandError(f"{line}: exit code {done.returncode}\n{done.stdout}")


ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
"""Makes glibc keep the memory that a training step frees and the next one needs: three epochs of NVUM took 0.4 s of
system time instead of 2.4 s, beside 13 s of user time. Other C libraries ignore it."""

COMMANDS = {"pipeline.cli": "cxr-prep", "trainer.cli": "cxr-train"}


def train_and_evaluate(runs: Sequence[DemoRun], *, home: Path, num_epochs: int, at_a_time: int) -> list[DemoResult]:
    """Train the runs, `at_a_time` side by side, and evaluate each; return the results in the order of `runs`.

    Raises:
        CommandError: one failed; those that have not begun are not begun.
    """
    with _epochs_shown(runs, num_epochs), ThreadPoolExecutor(at_a_time) as pool:
        futures = [pool.submit(_train_one, run, home) for run in runs]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _train_one(run: DemoRun, home: Path) -> DemoResult:
    started = time.monotonic()
    command("trainer.cli", *run.arguments, "--out", str(run.folder), home=home, quiet=True)
    checkpoints = [argument for name in ("best", "last") for argument in ("--checkpoint", name)]
    command("trainer.cli", "evaluate", "--run", str(run.folder), *run.evaluation, *checkpoints, home=home, quiet=True)
    result = read_result(run, elapsed_s=time.monotonic() - started)
    err.print(
        f"{run.method}: {result.elapsed_s:.0f} s, mean AUROC on clean labels {shown(result.auroc['best'])} at epoch "
        f"{result.best_epoch} (best on validation), {shown(result.auroc['last'])} at epoch {result.num_epochs} (last)",
        markup=False,
    )
    return result


def read_result(run: DemoRun, *, elapsed_s: float) -> DemoResult:
    """Return what the files of a run tell."""
    entries = json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))["evaluations"]
    counted = [
        finding["finding"]
        for finding in entries[0]["findings"]
        if finding["finding"] != NO_FINDING and min(finding["positives"], finding["negatives"]) >= MIN_POSITIVES
    ]
    auroc = {
        entry["checkpoint"]: mean_of([f["auroc"] for f in entry["findings"] if f["finding"] in counted])
        for entry in entries
    }
    epochs = [event for event in read_events(run.folder / "events.jsonl") if event["event"] == "epoch"]
    scores = [event["valid_mean_auroc"] or 0.0 for event in epochs]
    return DemoResult(
        run=run,
        auroc=auroc,
        num_findings=len(counted),
        num_images=entries[0]["num_images"],
        best_epoch=scores.index(max(scores)) + 1,
        num_epochs=len(epochs),
        elapsed_s=elapsed_s,
    )


def shown(value: float | None, digits: int = 3) -> str:
    """Return a metric as text, n/a where there is none."""
    return "n/a" if value is None else f"{value:.{digits}f}"


@contextmanager
def _epochs_shown(runs: Sequence[DemoRun], num_epochs: int) -> Iterator[None]:
    """Show a bar a run that follows the epochs in its events."""
    done = threading.Event()
    with progress_bar("epochs") as progress:
        tasks = {run.folder / "events.jsonl": progress.add_task(run.method, total=num_epochs) for run in runs}

        def follow() -> None:
            while not done.wait(0.5):
                for events, task in tasks.items():
                    if events.is_file():
                        progress.update(task, completed=events.read_bytes().count(b'{"event": "epoch"'))

        watcher = threading.Thread(target=follow, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
