"""What a comparison would take: a few steps of one run of each kind, in memory."""

from collections.abc import Iterator
from dataclasses import dataclass

from trainer.compare.plan import Plan, merged
from trainer.compare.results import read_results
from trainer.compare.standing import Standing, refuse_missing_tests, standing_of
from trainer.dry_run import dry_run


@dataclass(frozen=True, kw_only=True)
class ExpectedRun:
    """One run of a plan, before it."""

    name: str
    """Name of the run."""

    standing: Standing
    """How far it is."""

    num_train: int
    """Images of an epoch."""

    num_epochs: int
    """Epochs of the whole run."""

    num_steps: int
    """Optimiser steps of the whole run."""

    step_s: float
    """Seconds a step, of a run alone on this machine with its share of the cores."""

    left_s: float
    """Seconds of the steps of the epochs that are left."""


def expected(plan: Plan, *, num_threads: int) -> Iterator[ExpectedRun]:
    """Yield each run of the plan with what it would take; steps are timed once a data set and method.

    Args:
        plan: the comparison.
        num_threads: threads of a run whose settings name no number.

    Raises:
        UserError: whatever would keep a run from beginning.
    """
    refuse_missing_tests(plan)
    timed: dict[tuple[str, str], tuple[int, float]] = {}
    for standing, result in zip(standing_of(plan), read_results(plan), strict=True):
        run, num_epochs = standing.run, standing.config.run.epochs
        if (run.data, run.method) not in timed:
            dry = dry_run(merged({"run": {"num_threads": num_threads}}, run.settings))
            timed[run.data, run.method] = dry.steps_per_epoch, dry.step_s
        steps_per_epoch, step_s = timed[run.data, run.method]
        left = 0 if standing.standing is Standing.FINISHED else num_epochs - len(result.epochs)
        yield ExpectedRun(
            name=run.name, standing=standing.standing, num_train=standing.num_train, num_epochs=num_epochs,
            num_steps=num_epochs * steps_per_epoch, step_s=step_s, left_s=left * steps_per_epoch * step_s,
        )  # fmt: skip
