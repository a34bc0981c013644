"""The study's rows on disk: what is there already is not computed again, so that a long study can be interrupted."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tools.benchmark import append_row


class Outcome(NamedTuple):
    """What a run came to."""

    valid: float
    """Validation AUROC at the chosen epoch, on noisy labels (clean ones for the bound)."""

    test: float
    """Clean test AUROC at that epoch."""

    last: float | None
    """Clean test AUROC after the last epoch; None: the run was ended early."""

    epoch: int
    """The chosen epoch, from 1."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run that was done."""

    method: str
    """Its name."""

    trial: int
    """Its settings."""

    seed: int
    """Its world."""

    outcome: Outcome
    """What it came to."""

    settings: str
    """Its settings, to read."""


def read(path: Path) -> dict[tuple[str, int, int], Row]:
    """Return the rows of a file by (method, trial, seed); none where there is no file."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            Row(
                method=line["method"],
                trial=int(line["trial"]),
                seed=int(line["seed"]),
                outcome=Outcome(
                    valid=float(line["valid_auroc"]),
                    test=float(line["clean_test_auroc"]),
                    last=float(line["clean_test_auroc_last"]) if line["clean_test_auroc_last"] else None,
                    epoch=int(line["epoch"]),
                ),
                settings=line["settings"],
            )
            for line in csv.DictReader(file)
        ]
    return {(row.method, row.trial, row.seed): row for row in rows}


def append(path: Path, row: Row, more: Mapping[str, object]) -> None:
    """Add a row to a file."""
    append_row(
        path,
        {
            "method": row.method,
            "trial": row.trial,
            "seed": row.seed,
            "epoch": row.outcome.epoch,
            "valid_auroc": f"{row.outcome.valid:.5f}",
            "clean_test_auroc": f"{row.outcome.test:.5f}",
            "clean_test_auroc_last": "" if row.outcome.last is None else f"{row.outcome.last:.5f}",
            "settings": row.settings,
        }
        | dict(more),
    )


def chosen_trial(rows: Mapping[tuple[str, int, int], Row], method: str, *, num_trials: int, seeds: list[int]) -> int:
    """Return the trial with the largest mean validation AUROC over the tuning seeds.

    Raises:
        KeyError: a run of the tuning is missing.
    """
    means = [sum(rows[method, trial, seed].outcome.valid for seed in seeds) / len(seeds) for trial in range(num_trials)]
    return means.index(max(means))
