"""Intervals of Brier scores and of the rates of operating points: ratios of sums over the images of a draw.

Letters of the shapes: n images of one finding, D draws.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.bootstrap import BootstrapConfig
from trainer.evaluation.calibration import Interval
from trainer.evaluation.metrics import FindingMetrics
from trainer.evaluation.operating import OperatingPoint

FloatArray = NDArray[np.float64]

FEWEST_CALLED = 5
"""Images called positive, or negative, or of a class, below which a rate of them has no interval."""


class Sums(NamedTuple):
    """What is added up over the images of one finding: float64 [n], or [D] in the draws."""

    squared_error: FloatArray
    """(probability - label)^2; 0 throughout where it is not asked for."""

    labelled: FloatArray
    """1 an image."""

    true_positives: FloatArray
    """1 where called positive rightly; 0 throughout where no threshold was chosen, as the three below."""

    false_positives: FloatArray
    """1 where called positive wrongly."""

    false_negatives: FloatArray
    """1 where called negative wrongly."""

    true_negatives: FloatArray
    """1 where called negative rightly."""


def summands(
    entry: FindingMetrics, probs_n: NDArray[np.floating], targets_n: NDArray[np.floating], mask_n: NDArray[np.bool_]
) -> Sums:
    """Return what each image adds to the sums: 0 where it is not labelled."""
    positive_n, nothing_n = targets_n > 0.5, np.zeros(len(mask_n))
    squared_n = nothing_n if entry.calibration is None else (probs_n.astype(np.float64) - positive_n) ** 2
    sums = [np.where(mask_n, squared_n, 0.0), mask_n.astype(np.float64)]
    if entry.operating_point is None:
        return Sums(*sums, *[nothing_n] * 4)
    called_n = probs_n >= entry.operating_point.chosen.threshold
    cells = (called_n & positive_n, called_n & ~positive_n, ~called_n & positive_n, ~called_n & ~positive_n)
    return Sums(*sums, *((mask_n & cell_n).astype(np.float64) for cell_n in cells))


def with_rate_intervals(entry: FindingMetrics, sums_D: Sums, config: BootstrapConfig) -> FindingMetrics:
    """Return the metrics of a finding with the intervals of Brier score and rates, the threshold unchanged."""
    found, point = entry.calibration, entry.operating_point
    if found is not None:
        found = replace(found, brier_interval=_ratio(sums_D.squared_error, sums_D.labelled, config))
    if point is not None:
        point = _with_intervals(point, sums_D, config)
    return replace(entry, calibration=found, operating_point=point)


def percentiles(values_D: FloatArray, config: BootstrapConfig) -> Interval:
    """Return the interval that holds the configured share of the draws that have a value."""
    tail = (1 - config.confidence) / 2
    low, high = np.quantile(values_D[np.isfinite(values_D)], (tail, 1 - tail))
    return float(low), float(high)


def _with_intervals(point: OperatingPoint, sums_D: Sums, config: BootstrapConfig) -> OperatingPoint:
    def share(right: str, wrong: str) -> Interval | None:
        if getattr(point, right) + getattr(point, wrong) < FEWEST_CALLED:
            return None
        right_D, wrong_D = getattr(sums_D, right), getattr(sums_D, wrong)
        return _ratio(right_D, right_D + wrong_D, config)

    return replace(
        point,
        sensitivity_interval=share("true_positives", "false_negatives"),
        specificity_interval=share("true_negatives", "false_positives"),
        ppv_interval=share("true_positives", "false_positives"),
        npv_interval=share("true_negatives", "false_negatives"),
    )


def _ratio(above_D: FloatArray, below_D: FloatArray, config: BootstrapConfig) -> Interval:
    with np.errstate(invalid="ignore"):
        return percentiles(above_D / below_D, config)
