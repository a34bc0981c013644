"""comparison.json, comparison.csv and comparison.html."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

from manifests.atomic import write_bytes_atomically
from manifests.errors import ConfigError
from trainer.compare.comparison import MethodResult, Row, Table
from trainer.compare.page import comparison_html
from trainer.compare.plan import Plan
from trainer.compare.results import RunResult
from trainer.compare.uncertainty import Estimate

SCHEMA_VERSION = 1

LABORATORY = ("wrong_fitted", "wrong_present_fitted", "model_mean_auroc")
"""Fields of the events ``memorisation`` that a run's entry has, a value an epoch; empty without clean labels."""

MEAN = "mean"
"""Name of the mean in the column ``finding``."""


def write_comparison(plan: Plan, results: Sequence[RunResult], tables: Sequence[Table]) -> list[Path]:
    """Write the three files into the comparison's folder; return their paths. The same runs give the same bytes.

    Raises:
        ConfigError: they cannot be written.
    """
    contents = {
        "comparison.json": json.dumps(as_values(plan, results, tables), indent=2, allow_nan=False) + "\n",
        "comparison.csv": as_csv(plan, tables),
        "comparison.html": comparison_html(plan, results, tables),
    }
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_bytes_atomically(plan.out / name, content.encode())
    except OSError as error:
        raise ConfigError(f"{plan.out}: cannot be written ({error}); choose another --out") from error
    return [plan.out / name for name in contents]


def as_values(plan: Plan, results: Sequence[RunResult], tables: Sequence[Table]) -> dict[str, Any]:
    """Return the whole comparison as JSON holds it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "compare": asdict(plan.compare) | {"baseline": plan.baseline, "out": str(plan.out)},
        "tests": [asdict(test) | {"name": test.title} for test in plan.tests],
        "runs": [
            {
                "name": result.run.name,
                "data": result.run.data,
                "method": result.run.method,
                "seed": result.run.seed,
                "is_finished": result.is_finished,
                "settings": result.run.settings,
                "num_epochs": len(result.epochs),
                "best_epoch": result.best_epoch,
                "valid_mean_auroc": [epoch.get("valid_mean_auroc") for epoch in result.epochs],
                **{name: [event.get(name) for event in result.memorisation] for name in LABORATORY},
                "training_s": result.training_s,
            }
            for result in results
        ],
        "tables": [_table(table) for table in tables],
    }


def as_csv(plan: Plan, tables: Sequence[Table]) -> str:
    """Return one line a test set, checkpoint, method and finding, the mean among the findings."""
    text = StringIO()
    seeds = [f"auroc_seed_{seed}" for seed in plan.compare.seeds]
    names = ["test", "checkpoint", "data", "method", "finding", "positives", "negatives", "findings_in_mean"]
    names += ["num_seeds", "auroc", "auroc_sd", "auroc_low", "auroc_high"]
    names += ["difference", "difference_sd", "difference_low", "difference_high"]
    names += ["share", "share_low", "share_high", *seeds]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for table in tables:
        for method in table.methods:
            for finding, row in _rows(method):
                writer.writerow(_csv_row(table, method, finding, row))
    return text.getvalue()


def _rows(method: MethodResult) -> Iterator[tuple[str, Row]]:
    if method.mean is not None:
        yield MEAN, method.mean
    yield from method.findings.items()


def _csv_row(table: Table, method: MethodResult, finding: str, row: Row) -> dict[str, object]:
    assert table.findings is not None
    values: dict[str, object] = {"test": table.test, "checkpoint": table.checkpoint, "data": method.data}
    values |= {"method": method.method, "finding": finding, "num_seeds": row.auroc.num_seeds}
    if finding == MEAN:
        values["findings_in_mean"] = len(table.findings.columns_in_mean)
    else:
        column = table.findings.names.index(finding)
        values |= {"positives": table.findings.positives[column], "negatives": table.findings.negatives[column]}
    for name, part in (("auroc", row.auroc), ("difference", row.difference)):
        if part is not None:
            values |= {name: _digits(part.mean), f"{name}_sd": "" if part.sd is None else _digits(part.sd)}
            values |= _ends(name, part.interval)
    if row.share is not None:
        values |= {"share": _digits(row.share.share)} | _ends("share", row.share.interval)
    return values | {f"auroc_seed_{seed}": _digits(value) for seed, value in row.by_seed.items()}


def _ends(name: str, interval: tuple[float, float] | None) -> dict[str, object]:
    return {} if interval is None else {f"{name}_low": _digits(interval[0]), f"{name}_high": _digits(interval[1])}


def _digits(value: float) -> str:
    return f"{value:.5f}"


def _table(table: Table) -> dict[str, Any]:
    findings = table.findings
    return {
        "test": table.test,
        "checkpoint": table.checkpoint,
        "num_images": table.num_images,
        "num_patients": table.num_patients,
        "findings": [] if findings is None else [
            {
                "finding": name, "positives": positives, "negatives": negatives, "patients": patients,
                "is_measured": is_measured, "in_mean": in_mean,
            }
            for name, positives, negatives, patients, is_measured, in_mean in zip(
                findings.names, findings.positives, findings.negatives, findings.patients, findings.is_measured,
                findings.in_mean, strict=True,
            )
        ],
        "methods": [
            {
                "data": method.data,
                "method": method.method,
                "mean": None if method.mean is None else _row(method.mean),
                "findings": {name: _row(row) for name, row in method.findings.items()},
            }
            for method in table.methods
        ],
        "notes": list(table.notes),
    }  # fmt: skip


def _row(row: Row) -> dict[str, Any]:
    return {
        "auroc": asdict(row.auroc),
        "by_seed": row.by_seed,
        "difference": _or_none(row.difference),
        "share": None if row.share is None else asdict(row.share),
    }


def _or_none(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else asdict(estimate)
