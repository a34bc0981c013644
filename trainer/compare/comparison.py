"""The numbers of a comparison: each method on each test set, and how far it is from the baseline.

Letters of the shapes: n seeds, C findings, D draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.compare.measures import Findings, Measures, common_findings, measures
from trainer.compare.plan import CheckpointName, Plan
from trainer.compare.results import RunResult
from trainer.compare.uncertainty import Estimate, Share, estimate, share_of_gap

FloatArray = NDArray[np.float64]

FEW_PATIENTS = 50
"""Below this the variance over draws of patients is itself a rough guess, and it is said."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method, trained on one data set, at one checkpoint, on one test set; for the mean, or for one finding."""

    auroc: Estimate
    """Over its seeds."""

    by_seed: dict[int, float]
    """Seed -> AUROC."""

    difference: Estimate | None
    """Less the baseline of the same data set and seed; None for the baseline, and where they share no seed."""

    differences_by_seed: tuple[float, ...]
    """What it is the mean of, in the order of the seeds that both have."""

    share: Share | None
    """Of the gap between baseline and reference; None where there is no reference, or no gap."""


@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """One method on one test set."""

    data: str
    """Name of the data set that it was trained on."""

    method: str
    """Its name."""

    title: str
    """What tables call it: its name, behind that of the data set where there are several."""

    mean: Row | None
    """Mean over the findings that count; None where no run was measured, or no finding counts."""

    findings: dict[str, Row]
    """Finding -> its row, where it is measured (`Findings.is_measured`) and has an AUROC in every seed."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """All methods on one test set at one checkpoint."""

    test: str
    """Title of the test set."""

    checkpoint: CheckpointName
    """Which state of the runs."""

    num_images: int
    """Images of the first run that was measured."""

    num_patients: int
    """Their patients."""

    findings: Findings | None
    """What was measured; None where no run was."""

    methods: tuple[MethodResult, ...]
    """One entry a data set and method, in the order of the plan."""

    notes: tuple[str, ...]
    """What a reader must know: runs on other images, ..."""


def compare(plan: Plan, results: Sequence[RunResult]) -> list[Table]:
    """Return one table a test set and checkpoint, from the runs that were measured."""
    return [_table(plan, results, test.title, name) for test in plan.tests for name in plan.compare.checkpoints]


def _table(plan: Plan, results: Sequence[RunResult], test: str, checkpoint: CheckpointName) -> Table:
    there = [result for result in results if (test, checkpoint) in result.measured]
    if not there:
        return Table(
            test=test, checkpoint=checkpoint, num_images=0, num_patients=0, findings=None, notes=(),
            methods=tuple(
                _result(plan, data.name, method.name, mean=None, findings={})
                for data in plan.data for method in plan.methods
            ),
        )  # fmt: skip
    predictions = [result.measured[test, checkpoint] for result in there]
    findings = common_findings(predictions, min_positives=plan.compare.min_positives)
    by_run = {
        result.run.name: measures(run, findings, draws=plan.compare.bootstrap)
        for result, run in zip(there, predictions, strict=True)
    }
    num_patients = len(set(predictions[0].patient_id_n))
    runs = {(result.run.data, result.run.method, result.run.seed): by_run[result.run.name] for result in there}
    return Table(
        test=test,
        checkpoint=checkpoint,
        num_images=len(predictions[0].image_id_n),
        num_patients=num_patients,
        findings=findings,
        methods=tuple(
            _method(plan, findings, runs, data.name, method.name) for data in plan.data for method in plan.methods
        ),
        notes=tuple(_notes(plan, test, num_patients, runs)),
    )


Runs = dict[tuple[str, str, int], Measures]
"""(data set, method, seed) -> what was measured."""


def _notes(plan: Plan, test: str, num_patients: int, runs: Runs) -> list[str]:
    """Return what makes intervals doubtful, and what keeps runs of one data set from being paired."""
    notes = []
    if num_patients < FEW_PATIENTS:
        notes.append(
            f"{test}: only {num_patients} patients; what the intervals say of other patients is itself a rough guess"
        )
    for data in plan.data:
        if len({measured.images for (name, _, _), measured in runs.items() if name == data.name}) > 1:
            notes.append(
                f"{f'runs on {data.name}' if data.name else 'the runs'} were not all measured on the same images: "
                "differences between those that were not have no interval over patients"
            )
    return notes


def _method(plan: Plan, findings: Findings, runs: Runs, data: str, method: str) -> MethodResult:
    columns = findings.columns_in_mean
    mean = _row(plan, runs, data, method, columns) if columns else None
    rows = {
        name: row
        for column, name in enumerate(findings.names)
        if findings.is_measured[column] and (row := _row(plan, runs, data, method, [column])) is not None
    }
    return _result(plan, data, method, mean=mean, findings=rows)


def _result(plan: Plan, data: str, method: str, *, mean: Row | None, findings: dict[str, Row]) -> MethodResult:
    title = f"{data}: {method}" if len(plan.data) > 1 else method
    return MethodResult(data=data, method=method, title=title, mean=mean, findings=findings)


def _row(plan: Plan, runs: Runs, data: str, method: str, columns: list[int]) -> Row | None:
    """Return the row of a mean over columns; None where a run is missing or has no AUROC."""
    own = _of_seeds(plan, runs, data, method)
    values = {seed: float(measured.auroc_C[columns].mean()) for seed, measured in own.items()}
    if not values or not np.isfinite(list(values.values())).all():
        return None
    base = _of_seeds(plan, runs, data, plan.baseline)
    gain = _difference(own, base, columns)
    share = None
    if plan.compare.reference is not None and method not in (plan.baseline, plan.compare.reference):
        share = _share(plan, own, base, _of_seeds(plan, runs, data, plan.compare.reference), columns)
    is_other = gain is not None and method != plan.baseline
    return Row(
        auroc=estimate(
            np.array(list(values.values())),
            _draws(list(own.values()), columns),
            draws_expected=plan.compare.bootstrap > 0,
            within=(0, 1),
        ),
        by_seed=values,
        difference=estimate(*gain, draws_expected=plan.compare.bootstrap > 0, within=(-1, 1))
        if gain and is_other
        else None,
        differences_by_seed=tuple(gain[0].tolist()) if gain and is_other else (),
        share=share,
    )


def _of_seeds(plan: Plan, runs: Runs, data: str, method: str) -> dict[int, Measures]:
    return {seed: runs[data, method, seed] for seed in plan.compare.seeds if (data, method, seed) in runs}


def _difference(
    own: dict[int, Measures], base: dict[int, Measures], columns: list[int]
) -> tuple[FloatArray, FloatArray | None] | None:
    """Return the differences of the seeds that both have, and their draws where both were measured on one set."""
    shared = [seed for seed in own if seed in base]
    if not shared:
        return None
    pairs = [(own[seed], base[seed]) for seed in shared]
    value_n = np.array([one.auroc_C[columns].mean() - other.auroc_C[columns].mean() for one, other in pairs])
    if not np.isfinite(value_n).all():
        return None
    draws, others = (_draws(list(runs), columns) for runs in zip(*pairs, strict=True))
    same = len({measured.images for pair in pairs for measured in pair}) == 1
    if not same or draws is None or others is None:
        return value_n, None
    return value_n, draws - others


def _share(
    plan: Plan,
    own: dict[int, Measures],
    base: dict[int, Measures],
    reference: dict[int, Measures],
    columns: list[int],
) -> Share | None:
    shared = own.keys() & base.keys() & reference.keys()
    kept = [{seed: runs[seed] for seed in runs if seed in shared} for runs in (own, base, reference)]
    gain = _difference(kept[0], kept[1], columns)
    gap = _difference(kept[2], kept[1], columns)
    if gain is None or gap is None or (plan.compare.bootstrap and gain[1] is None):
        return None
    return share_of_gap(gain[0], gap[0], gain[1], gap[1])


def _draws(runs: Sequence[Measures], columns: list[int]) -> FloatArray | None:
    """Return the mean of the columns in every draw, [n, D]."""
    drawn = [measured.draws_DC[:, columns].mean(axis=1) for measured in runs if measured.draws_DC is not None]
    return np.stack(drawn) if drawn and len(drawn) == len(runs) else None
