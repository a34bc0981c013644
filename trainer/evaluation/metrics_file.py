"""metrics.json of a run: one entry for each (pack, split, labels, checkpoint) that was evaluated."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from manifests.atomic import write_bytes_atomically
from trainer.evaluation.bootstrap import BootstrapConfig
from trainer.evaluation.calibration import CALIBRATION_BINS
from trainer.evaluation.metrics import SplitMetrics
from trainer.evaluation.operating import OperatingRule
from trainer.report.record import METRICS_FILE, read_object

KEY = ("dataset", "pack", "split", "labels", "checkpoint")


@dataclass(frozen=True, kw_only=True)
class OperatingChoice:
    """Where the thresholds of an evaluation come from."""

    rule: OperatingRule
    """How each was chosen."""

    predictions: str | None
    """Name of the file of predictions on validation that chose them; None: none was chosen."""

    num_images: int
    """Validation images."""

    why_not: str | None = None
    """What kept them from being chosen; None: nothing."""


@dataclass(frozen=True, kw_only=True)
class EvaluationEntry:
    """What metrics.json says of one evaluation."""

    dataset: str
    """Dataset of the pack."""

    pack: str | None
    """Name of the pack's folder; None: the pack that the run was trained on."""

    split: str
    """Split that was evaluated."""

    labels: str
    """`pack`, or the name of the manifest that the labels came from."""

    checkpoint: str
    """`best`, `last`, or the name of a checkpoint's file."""

    step: int
    """Optimiser steps behind the checkpoint."""

    num_images: int
    """Images that were measured."""

    left_out: dict[str, int]
    """Reason -> images of the split that were not."""

    predictions: str
    """Name of the file of predictions beside metrics.json."""

    metrics: SplitMetrics
    """The numbers."""

    calibration_bins: int = CALIBRATION_BINS
    """Bins of the expected calibration error."""

    bootstrap: BootstrapConfig | None = None
    """How their intervals were drawn; None: there are none."""

    operating: OperatingChoice | None = None
    """How the thresholds of the operating points were chosen; None: there are none."""

    outputs: dict[str, tuple[str, ...]] | None = None
    """Finding -> outputs of the model, the largest of which is its score; None: a finding is its own output."""

    warnings: list[str] = field(default_factory=list)
    """What a reader of the numbers must know."""

    def as_values(self) -> dict[str, Any]:
        """Return the entry as JSON holds it, the metrics at its top level."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "metrics"}
        for name in ("bootstrap", "operating"):
            values[name] = None if values[name] is None else asdict(values[name])
        return values | asdict(self.metrics)


def add_evaluation(run_dir: Path, entry: EvaluationEntry) -> None:
    """Write an entry into metrics.json: in place of an earlier one of the same key, else after the others.

    Raises:
        ConfigError: the file that is there is not JSON.
    """
    path = run_dir / METRICS_FILE
    content = read_object(path)
    values = entry.as_values()
    entries = content.get("evaluations", [])
    same = [position for position, other in enumerate(entries) if all(other.get(key) == values[key] for key in KEY)]
    entries[same[0] if same else len(entries) :] = [values, *(entries[same[0] + 1 :] if same else [])]
    write_bytes_atomically(path, (json.dumps({"evaluations": entries}, indent=2) + "\n").encode())
