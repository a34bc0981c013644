"""Everything that metrics.json says of a set of predictions: metrics, calibration, operating points, intervals.

Letters of the shapes: n images, C findings.
"""

from collections.abc import Mapping
from dataclasses import replace

from manifests.findings import NO_FINDING
from trainer.evaluation.bootstrap import BootstrapConfig
from trainer.evaluation.calibration import calibration
from trainer.evaluation.intervals import with_intervals
from trainer.evaluation.metrics import FindingMetrics, SplitMetrics, mean_of, measure
from trainer.evaluation.operating import Chosen, OperatingRule, apply, choose
from trainer.evaluation.predictions import Predictions


def scorecard(
    predictions: Predictions, config: BootstrapConfig, *, min_positives: int, chosen: Mapping[str, Chosen | None]
) -> SplitMetrics:
    """Return all that is measured on the predictions.

    Args:
        predictions: probabilities and labels of n images for C findings.
        config: how intervals are drawn.
        min_positives: fewest positives of a finding in the second mean.
        chosen: finding -> its threshold; a finding that is not there has no operating point.
    """
    arrays = (predictions.probs_nC, predictions.targets_nC, predictions.mask_nC)
    metrics = measure(*arrays, predictions.findings)
    findings = tuple(_with_rates(entry, predictions, chosen.get(entry.finding)) for entry in metrics.findings)
    there = [entry.calibration for entry in findings if entry.calibration is not None and entry.finding != NO_FINDING]
    metrics = replace(
        metrics,
        findings=findings,
        mean_brier=mean_of([found.brier for found in there]),
        mean_ece=mean_of([found.ece for found in there]),
    )
    return with_intervals(metrics, *arrays, predictions.patient_id_n, config, min_positives=min_positives)


def thresholds(validation: Predictions, rule: OperatingRule) -> dict[str, Chosen | None]:
    """Return finding -> the threshold that the rule chooses on the validation images; None where it cannot."""
    found: dict[str, Chosen | None] = {}
    for column, name in enumerate(validation.findings):
        mask_n = validation.mask_nC[:, column]
        positive_n = validation.targets_nC[mask_n, column] > 0.5
        found[name] = choose(rule, validation.probs_nC[mask_n, column], positive_n)
    return found


def _with_rates(entry: FindingMetrics, predictions: Predictions, chosen: Chosen | None) -> FindingMetrics:
    """Return the metrics of one finding with calibration and operating point, where it has an AUROC."""
    if entry.auroc is None:
        return entry
    column = predictions.findings.index(entry.finding)
    mask_n = predictions.mask_nC[:, column]
    probs_n, positive_n = predictions.probs_nC[mask_n, column], predictions.targets_nC[mask_n, column] > 0.5
    return replace(
        entry,
        calibration=calibration(probs_n, positive_n),
        operating_point=None if chosen is None else apply(chosen, probs_n, positive_n),
    )
