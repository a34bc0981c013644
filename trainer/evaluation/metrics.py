"""AUROC and average precision of many findings at once, with masks, ties and missing classes.

Letters of the shapes: N images, C findings. Both measures come from one pass: every distinct score is a threshold, and
what counts is how many positives and negatives score at least as much. Tied scores share one threshold, so a tie is
worth one half in the AUROC and cannot be broken by the order of the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from manifests.findings import NO_FINDING
from trainer.evaluation.calibration import Calibration
from trainer.evaluation.calibration import Interval as Interval
from trainer.evaluation.operating import OperatingPoint

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
ENOUGH_POSITIVES = 10
"""Below so many positives a number is called noise: one image more or less moves it by several hundredths."""


@dataclass(frozen=True, kw_only=True)
class FindingMetrics:
    """What was measured for one finding."""

    finding: str
    """Name of the output."""

    positives: int
    """Images whose label is present."""

    negatives: int
    """Images whose label is absent."""

    auroc: float | None
    """Area under the ROC curve in [0, 1]; None where a class is missing or a score is not finite."""

    average_precision: float | None
    """Step-wise area under the precision-recall curve in [0, 1]; None as above."""

    auroc_interval: Interval | None = None
    """Where the AUROC lies in the stated share of the draws; None: too few cases, or not asked for (`intervals.py`)."""

    average_precision_interval: Interval | None = None
    """The same of the average precision."""

    calibration: Calibration | None = None
    """Whether the probabilities are frequencies; None as for the AUROC, or not asked for."""

    operating_point: OperatingPoint | None = None
    """A threshold and its rates; None: none was chosen (`operating.py`), or as for the AUROC."""


@dataclass(frozen=True, kw_only=True)
class SupportedMeans:
    """Means over the findings that have enough positives, without `No Finding`."""

    min_positives: int
    """Fewest positives of a finding in the means."""

    num_findings: int
    """How many findings the means are taken over."""

    mean_auroc: float | None
    """None where no finding has enough."""

    mean_auroc_interval: Interval | None
    """None where one of the findings has none, or not asked for."""

    mean_average_precision: float | None
    """As for the AUROC."""

    mean_average_precision_interval: Interval | None
    """As for the AUROC."""


@dataclass(frozen=True, kw_only=True)
class SplitMetrics:
    """What was measured on one selection of images."""

    findings: tuple[FindingMetrics, ...]
    """One entry an output, in the order of the label space."""

    mean_auroc: float | None
    """Mean over the findings that have a value, without `No Finding`; None where none has."""

    mean_average_precision: float | None
    """The same mean of the average precision."""

    num_findings_in_mean: int
    """How many findings the means are taken over."""

    mean_auroc_interval: Interval | None = None
    """None where one of the findings in the mean has none, or not asked for."""

    mean_average_precision_interval: Interval | None = None
    """As above."""

    supported: SupportedMeans | None = None
    """The means over findings with enough positives; None: not asked for."""

    mean_brier: float | None = None
    """Mean of the Brier scores, as the mean AUROC."""

    mean_ece: float | None = None
    """Mean of the expected calibration errors, as the mean AUROC."""


class RankedCounts(NamedTuple):
    """Cumulative counts at the distinct scores of every finding, from the highest score down; all [N, C]."""

    threshold_NC: BoolArray
    """True where the row is the last of its score: only these rows are points of a curve."""

    true_positives_NC: FloatArray
    """Positives that score at least as much as this row."""

    false_positives_NC: FloatArray
    """Negatives that score at least as much as this row."""


def measure(
    scores_NC: NDArray[np.floating], targets_NC: NDArray[np.floating], mask_NC: BoolArray, findings: Sequence[str]
) -> SplitMetrics:
    """Return the metrics of every finding and their means.

    Args:
        scores_NC: probabilities or logits; only their order within a finding matters.
        targets_NC: 1 present, 0 absent; anything where the mask is False.
        mask_NC: False where an image has no label of a finding; it counts in neither class.
        findings: names of the C columns.
    """
    counts = ranked_counts(scores_NC, targets_NC, mask_NC)
    finite_C = np.isfinite(np.where(mask_NC, scores_NC, 0.0)).all(axis=0)
    auroc_C = np.where(finite_C, auroc(counts), np.nan)
    precision_C = np.where(finite_C, average_precision(counts), np.nan)
    positive_NC = (targets_NC > 0.5) & mask_NC
    positives_C, labelled_C = positive_NC.sum(axis=0), mask_NC.sum(axis=0)
    per_finding = tuple(
        FindingMetrics(
            finding=name,
            positives=int(positives_C[column]),
            negatives=int(labelled_C[column] - positives_C[column]),
            auroc=_value(auroc_C[column]),
            average_precision=_value(precision_C[column]),
        )
        for column, name in enumerate(findings)
    )
    diseases = [entry for entry in per_finding if entry.finding != NO_FINDING]
    return SplitMetrics(
        findings=per_finding,
        mean_auroc=mean_of([entry.auroc for entry in diseases]),
        mean_average_precision=mean_of([entry.average_precision for entry in diseases]),
        num_findings_in_mean=sum(entry.auroc is not None for entry in diseases),
    )


def ranked_counts(
    scores_NC: NDArray[np.floating], targets_NC: NDArray[np.floating], mask_NC: BoolArray
) -> RankedCounts:
    """Return the cumulative counts of both classes; a masked row keeps its place and counts for nothing."""
    if not scores_NC.shape == targets_NC.shape == mask_NC.shape or scores_NC.ndim != 2:
        raise ValueError(f"expected three [N, C] arrays, got {scores_NC.shape}, {targets_NC.shape}, {mask_NC.shape}")
    order_NC = np.argsort(-scores_NC, axis=0, kind="stable")
    sorted_NC = np.take_along_axis(scores_NC, order_NC, axis=0)
    labelled_NC = np.take_along_axis(mask_NC, order_NC, axis=0)
    positive_NC = np.take_along_axis(targets_NC > 0.5, order_NC, axis=0) & labelled_NC
    threshold_NC = np.ones(scores_NC.shape, dtype=np.bool_)
    threshold_NC[:-1] = sorted_NC[:-1] != sorted_NC[1:]
    return RankedCounts(
        threshold_NC=threshold_NC,
        true_positives_NC=np.cumsum(positive_NC, axis=0, dtype=np.float64),
        false_positives_NC=np.cumsum(labelled_NC & ~positive_NC, axis=0, dtype=np.float64),
    )


def auroc(counts: RankedCounts) -> FloatArray:
    """Return the area under the ROC curve of each finding, float64 [C]; NaN where a class is missing."""
    true_NC, false_NC = counts.true_positives_NC, counts.false_positives_NC
    previous_true_NC, previous_false_NC = _previous(counts, true_NC), _previous(counts, false_NC)
    areas_NC = (false_NC - previous_false_NC) * (true_NC + previous_true_NC) / 2
    total_C: FloatArray = np.where(counts.threshold_NC, areas_NC, 0.0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return total_C / (_last(true_NC) * _last(false_NC))


def average_precision(counts: RankedCounts) -> FloatArray:
    """Return sum over thresholds of (recall step x precision) of each finding, float64 [C]; NaN as in `auroc`."""
    true_NC, false_NC = counts.true_positives_NC, counts.false_positives_NC
    steps_NC = np.where(counts.threshold_NC, true_NC - _previous(counts, true_NC), 0.0)
    precision_NC = true_NC / np.maximum(true_NC + false_NC, 1.0)
    positives_C = _last(true_NC)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(_last(false_NC) > 0, (steps_NC * precision_NC).sum(axis=0) / positives_C, np.nan)


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are there, or None."""
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def _previous(counts: RankedCounts, cumulative_NC: FloatArray) -> FloatArray:
    """Return, for each row, the count at the threshold before the one it belongs to (0 before the first)."""
    at_thresholds_NC = np.maximum.accumulate(np.where(counts.threshold_NC, cumulative_NC, 0.0), axis=0)
    previous_NC = np.zeros_like(at_thresholds_NC)
    previous_NC[1:] = at_thresholds_NC[:-1]
    return previous_NC


def _last(cumulative_NC: FloatArray) -> FloatArray:
    return cumulative_NC[-1] if len(cumulative_NC) else np.zeros(cumulative_NC.shape[1])


def _value(number: np.floating) -> float | None:
    return float(number) if np.isfinite(number) else None
