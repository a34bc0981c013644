"""The work of a comparison: train what is not finished, evaluate what is not up to date, several at a time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from manifests.atomic import write_bytes_atomically
from manifests.errors import UserError
from trainer.compare.plan import Plan, TestSet
from trainer.compare.processes import Processes, RunFailed, RunStopped
from trainer.compare.results import entry_of, is_own_pack
from trainer.compare.standing import Standing, StandingRun
from trainer.recipe_text import recipe_text
from trainer.report.record import RunRecord, read_record
from trainer.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A run that did not come to its end."""

    name: str
    """Name of the run."""

    message: str
    """How it ended, with what it wrote last."""


def work_through(
    plan: Plan,
    runs: Sequence[StandingRun],
    *,
    jobs: int,
    num_threads: int,
    processes: Processes,
    on_begin: Callable[[StandingRun], None],
    on_end: Callable[[StandingRun, Failure | None], None],
) -> list[Failure]:
    """Train and evaluate the runs, `jobs` at a time; return those that failed, the others go on.

    Args:
        plan: the comparison.
        runs: how far each of its runs is.
        jobs: runs side by side.
        num_threads: threads of a training whose settings name no number, and of an evaluation.
        processes: starts the children; where it is stopped, what has not begun is left.
        on_begin: called in a thread as a run begins.
        on_end: called in a thread as a run has ended, unless it was stopped.
    """

    def one(standing: StandingRun) -> Failure | None:
        failure = None
        if processes.is_stopped:
            return None
        on_begin(standing)
        try:
            _train(plan, standing, num_threads, processes)
            _evaluate(plan, standing, num_threads, processes)
        except RunStopped:
            return None
        except (RunFailed, UserError, OSError) as error:
            failure = Failure(name=standing.run.name, message=str(error))
        on_end(standing, failure)
        return failure

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(one, standing) for standing in runs]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            processes.stop()
            raise
    return [failure for future in futures if (failure := future.result()) is not None]


def is_up_to_date(plan: Plan, standing: StandingRun) -> bool:
    """Tell whether a run is finished and evaluated on every test set."""
    if standing.standing is not Standing.FINISHED:
        return False
    record = read_record(standing.run.folder)
    return all(_is_evaluated(record, test, plan) for test in plan.tests)


def log_file(plan: Plan, name: str) -> Path:
    """Return the file of what a run's processes write."""
    return plan.out / "logs" / f"{name}.log"


def _train(plan: Plan, standing: StandingRun, num_threads: int, processes: Processes) -> None:
    if standing.standing is Standing.FINISHED:
        return
    run = standing.run
    recipe = plan.out / "recipes" / f"{run.name}.toml"
    command = f"cxr-train --recipe {recipe} --out {run.folder} --resume auto"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(recipe, recipe_text(run.settings, f"a run of {plan.file}\n\ncommand    {command}").encode())
    threads = []
    # A run that was begun keeps its number of threads, on which its bits depend.
    if standing.standing is Standing.NEW and "num_threads" not in run.settings.get("run", {}):
        threads = ["--set", f"run.num_threads={num_threads}"]
    processes.cxr_train(
        "--recipe", str(recipe), "--out", str(run.folder), "--resume", "auto", *threads,
        log=log_file(plan, run.name), environment={},
    )  # fmt: skip
    if not RunFolder(folder=run.folder).is_finished:
        raise RunFailed("the training was asked to stop by another process; run the same command again to go on")


def _evaluate(plan: Plan, standing: StandingRun, num_threads: int, processes: Processes) -> None:
    run = standing.run
    for test in plan.tests:
        if _is_evaluated(read_record(run.folder), test, plan):
            continue
        options = ["--split", test.split]
        options += ["--pack", test.pack] if test.pack is not None else []
        options += ["--labels", test.labels] if test.labels is not None else []
        options += ["--expert", test.expert] if test.expert is not None else []
        options += [option for name in plan.compare.checkpoints for option in ("--checkpoint", name)]
        options += ["--bootstrap", str(plan.compare.bootstrap), "--min-positives", str(plan.compare.min_positives)]
        processes.cxr_train(
            "evaluate", "--run", str(run.folder), *options,
            log=log_file(plan, run.name), environment={"OMP_NUM_THREADS": str(num_threads)},
        )  # fmt: skip


def _is_evaluated(record: RunRecord, test: TestSet, plan: Plan) -> bool:
    """Tell whether the predictions on a test set are newer than what they were made of, as `make` does."""
    for name in plan.compare.checkpoints:
        own_pack = is_own_pack(record, test)
        entry = entry_of(record, test, name, own_pack=own_pack)
        predictions = record.folder / (entry or {}).get("predictions", "none")
        if entry is None or not predictions.is_file():
            return False
        checkpoints = RunFolder(folder=record.folder).checkpoints
        pack = record.setting("data", "pack") if own_pack else test.pack
        sources = [checkpoints.best] if name == "best" else checkpoints.newest_first()[:1]
        sources += [Path(pack) / "pack.json"] if pack else []
        sources += test.label_files
        written = predictions.stat().st_mtime_ns
        if any(source.is_file() and source.stat().st_mtime_ns > written for source in sources):
            return False
    return True
