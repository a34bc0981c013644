"""`cxr-train compare`: methods, seeds and data sets side by side, from one TOML to a table and a page."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manifests.errors import ConfigError
from pipeline.console import err, out

WIDE = 120
"""Columns of text that a table may take, also where the terminal has fewer or there is none: names stay whole."""

if TYPE_CHECKING:
    from rich.table import Table as Grid

    from trainer.compare.comparison import Table
    from trainer.compare.plan import Plan
    from trainer.compare.processes import Processes
    from trainer.compare.schedule import Failure


def compare(
    file: Annotated[
        str, typer.Argument(metavar="FILE|NAME", help="The comparison in TOML, or a shipped one: nvum-paper-nih, ...")
    ],
    folder: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the comparison. Default: the file's.")
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", help="Runs side by side; they share the cores.", min=1)
    ] = 1,
    restart: Annotated[
        list[str] | None,
        typer.Option("--restart", metavar="NAME", help="Put this run aside and train it anew; a pattern; repeatable."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs with their steps and expected time. Write nothing.")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Train and evaluate nothing: table and page of what is there.")
    ] = False,
) -> None:
    """Train every method with every seed on every data set, evaluate all, and set them beside each other.

    A run is an ordinary run folder, trained by an ordinary `cxr-train`. The same command again goes on where it was
    stopped: what is finished is left alone. A run that fails is shown, the others go on, and the exit code is 1.

    Then: mean and standard deviation over seeds, and the difference to the baseline with a 95 % interval of both kinds
    of chance, other seeds and other patients; comparison.html, comparison.csv and comparison.json in the folder.

    For example:

    - `cxr-train compare ablation.toml --dry-run`: what would be trained, and how long it may take.

    - `cxr-train compare ablation.toml --jobs 2`: two runs at a time.

    - `cxr-train compare nvum-paper-nih --report-only`: the tables of the paper's benchmark, as far as there are runs.
    """
    from trainer.compare.comparison import compare as compared
    from trainer.compare.files import write_comparison
    from trainer.compare.plan_file import read_plan
    from trainer.compare.results import read_results
    from trainer.compare.text import text_table, verdict

    if report_only and (restart or dry_run):
        raise ConfigError("--report-only: trains nothing; leave out --restart and --dry-run")
    plan = read_plan(file, out=folder)
    if dry_run:
        _list_runs(plan, jobs)
        return
    failures: Sequence[Failure] = []
    exit_code = 0
    if not report_only:
        failures, exit_code = _work(plan, jobs, restart or [])
    results = read_results(plan)
    tables = compared(plan, results)
    paths = write_comparison(plan, results, tables)
    for table in tables:
        _show(text_table(plan, table), table)
        out.print(verdict(plan, table), markup=False)
    if failures:
        names = ", ".join(failure.name for failure in failures)
        err.print(f"{len(failures)} runs failed: {names}; their output: {plan.out / 'logs'}", style="red", markup=False)
    for path in paths:
        out.print(f"{path.suffix.removeprefix('.')}: {path}", markup=False)
    raise typer.Exit(exit_code or int(bool(failures)))


def _work(plan: "Plan", jobs: int, restart: list[str]) -> "tuple[Sequence[Failure], int]":
    """Train and evaluate; return what failed, and the exit code of a signal that stopped it."""
    from manifests.atomic import write_bytes_atomically
    from pipeline.cores import usable_cores
    from trainer.compare.processes import Processes, shared_threads
    from trainer.compare.progress import ComparisonProgress
    from trainer.compare.schedule import is_up_to_date, work_through
    from trainer.compare.standing import refuse_missing_tests, set_aside, standing_of

    refuse_missing_tests(plan)
    for path in set_aside(plan, restart):
        err.print(f"put aside: {path}", markup=False)
    runs = standing_of(plan)
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        write_bytes_atomically(plan.out / "comparison.toml", plan.file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{plan.out}: cannot be written ({error}); choose another --out") from error
    to_do = [run for run in runs if not is_up_to_date(plan, run)]
    jobs = max(1, min(jobs, len(to_do)))
    progress = ComparisonProgress(to_do, num_up_to_date=len(runs) - len(to_do))
    processes = Processes()
    with progress, _stopping(processes) as ending:
        failures = work_through(
            plan, to_do, jobs=jobs, num_threads=shared_threads(jobs, usable_cores()), processes=processes,
            on_begin=progress.begin, on_end=progress.end,
        )  # fmt: skip
    if processes.is_stopped:
        err.print("stopped; the same command goes on where it was", style="yellow", markup=False)
    return failures, ending.get("exit_code", 0)


@contextmanager
def _stopping(processes: "Processes") -> Iterator[dict[str, int]]:
    """Pass the first SIGINT or SIGTERM on to the children as SIGTERM, a second SIGINT as SIGKILL."""
    ending: dict[str, int] = {}

    def stop(number: int, _frame: Any) -> None:
        again = processes.is_stopped and number == signal.SIGINT
        processes.stop(signal.SIGKILL if again else signal.SIGTERM)
        # As for a single run: Ctrl-C ends with 130; a scheduler's SIGTERM that was obeyed in order is no failure.
        ending["exit_code"] = 130 if number == signal.SIGINT else 0
        if not again:
            err.print("stopping: every run that trains writes a checkpoint (Ctrl-C again: at once)", style="yellow")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_wide(grid: "Grid") -> None:
    """Print a table that does not shrink to 80 columns where there is no terminal."""
    width = out.width
    out.width = max(width, WIDE)
    out.print(grid)
    out.width = width


def _list_runs(plan: "Plan", jobs: int) -> None:
    from rich.table import Table as Grid

    from pipeline.cores import usable_cores
    from trainer.compare.expected import expected
    from trainer.compare.processes import shared_threads
    from trainer.display import duration

    grid = Grid("run", "is", title=f"{plan.file}: into {plan.out}", title_justify="left")
    for column in ("images", "epochs", "steps", "s a step", "time"):
        grid.add_column(column, justify="right")
    whole_s = 0.0
    for row in expected(plan, num_threads=shared_threads(jobs, usable_cores())):
        whole_s += row.left_s
        grid.add_row(
            row.name, row.standing.value, f"{row.num_train:,}", str(row.num_epochs), f"{row.num_steps:,}",
            f"{row.step_s:.3g}", duration(row.left_s),
        )  # fmt: skip
    _print_wide(grid)
    out.print(
        f"all that is left, one after the other: {duration(whole_s)}, without validation, checkpoints and evaluation"
        + (f"; with --jobs {jobs} less, as far as the device has room for several" if jobs > 1 else "")
    )


def _show(text: "tuple[list[str], list[list[str]]]", table: "Table") -> None:
    from rich.table import Table as Grid

    from trainer.compare.text import title_of

    columns, rows = text
    grid = Grid(title=title_of(table), title_justify="left")
    for number, column in enumerate(columns):
        grid.add_column(column, justify="left" if number == 0 else "right", no_wrap=number > 0)
    for row in rows:
        grid.add_row(*row)
    _print_wide(grid)
    for note in table.notes:
        err.print(f"warning: {note}", style="yellow", markup=False)
