"""What the folders of a comparison's runs tell: how each was trained, and its predictions on every test set."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.compare.plan import CheckpointName, Plan, PlannedRun, TestSet
from trainer.evaluation.evaluate_config import PACK_LABELS
from trainer.evaluation.predictions import Predictions, read_predictions
from trainer.report.record import CONFIG_FILE, RunRecord, read_record

Measured = dict[tuple[str, CheckpointName], Predictions]
"""(title of the test set, checkpoint) -> what the run says of its images."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """One run as it is now."""

    run: PlannedRun
    """What it was to be."""

    is_finished: bool
    """Whether its last epoch is done."""

    record: RunRecord | None
    """Its folder in memory; None where there is none yet."""

    measured: Measured
    """What was evaluated; empty for a run that is not finished."""

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """Its events ``epoch``."""
        return [] if self.record is None else self.record.of_kind("epoch")

    @property
    def memorisation(self) -> list[dict[str, Any]]:
        """Its events ``memorisation``, where clean labels were named to it."""
        return [] if self.record is None else self.record.of_kind("memorisation")

    @property
    def best_epoch(self) -> int | None:
        """Epoch that validation chose, counted from 1; None before the end."""
        ends = [] if self.record is None else self.record.of_kind("end")
        return ends[-1]["best_epoch"] + 1 if ends and ends[-1].get("best_epoch") is not None else None

    @property
    def training_s(self) -> float:
        """Seconds of all epochs, validation included."""
        return sum(event.get("epoch_s") or 0.0 for event in self.epochs)


def read_results(plan: Plan) -> list[RunResult]:
    """Return every run of the plan, in its order.

    Raises:
        ConfigError: a file in a run's folder is damaged.
    """
    return [_read(run, plan) for run in plan.runs()]


def entry_of(record: RunRecord, test: TestSet, checkpoint: CheckpointName, *, own_pack: bool) -> dict[str, Any] | None:
    """Return what metrics.json says of a test set; None where it was not evaluated.

    Args:
        record: the run.
        test: which images and labels.
        checkpoint: which state of the run.
        own_pack: whether the test set's pack is the run's own.
    """
    pack, split, labels = test.key
    wanted = {
        "pack": None if own_pack else pack,
        "split": split,
        "labels": labels or PACK_LABELS,
        "checkpoint": checkpoint,
    }
    found = [entry for entry in record.evaluations if all(entry.get(key) == value for key, value in wanted.items())]
    return found[-1] if found else None


def is_own_pack(record: RunRecord, test: TestSet) -> bool:
    """Tell whether a test set's pack is the one that the run was trained on."""
    own = record.setting("data", "pack")
    return test.pack is None or (own is not None and Path(own).resolve() == Path(test.pack).resolve())


def _read(run: PlannedRun, plan: Plan) -> RunResult:
    record = read_record(run.folder) if (run.folder / CONFIG_FILE).is_file() else None
    is_finished = record is not None and bool(record.events) and record.events[-1].get("event") == "end"
    measured: Measured = {}
    if record is not None and is_finished:
        measured = dict(_measured(record, plan))
    return RunResult(run=run, is_finished=is_finished, record=record, measured=measured)


def _measured(record: RunRecord, plan: Plan) -> Iterator[tuple[tuple[str, CheckpointName], Predictions]]:
    for test in plan.tests:
        for checkpoint in plan.compare.checkpoints:
            entry = entry_of(record, test, checkpoint, own_pack=is_own_pack(record, test))
            if entry is not None and (record.folder / entry["predictions"]).is_file():
                yield (test.title, checkpoint), read_predictions(record.folder / entry["predictions"])
