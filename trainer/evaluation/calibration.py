"""Whether probabilities are frequencies: Brier score, expected calibration error, and the bins behind it.

Letters of the shapes: n images of one finding, b bins that hold an image.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
"""Lower and upper end."""

CALIBRATION_BINS = 15
"""Bins of equal mass: as many images in each, but for ties. Equal widths would put nearly all images of a rare finding
into the first one."""


class Bins(NamedTuple):
    """A reliability curve, from low to high probabilities; bins without an image are left out."""

    probability_b: NDArray[np.float64]
    """Mean probability of the bin's images."""

    frequency_b: NDArray[np.float64]
    """Share of the bin's images that have the finding."""

    count_b: NDArray[np.int64]
    """Images in the bin."""

    variance_b: NDArray[np.float64]
    """Sum of p (1 - p) over the bin: the variance of its positives if every probability is right."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How far the probabilities of one finding are from frequencies."""

    brier: float
    """Mean of (probability - label)^2, in [0, 1]."""

    brier_skill: float
    """1 - brier / (prevalence (1 - prevalence)): 0 is what the prevalence says of every image, below is worse."""

    ece: float
    """Expected calibration error: mean over the images of |frequency - mean probability| of their bins, in [0, 1]."""

    ece_if_calibrated: float
    """What `ece` is expected to be where every probability is right: what is below it shows nothing."""

    brier_interval: Interval | None = None
    """Of the Brier score, over the draws; None: too few cases, or not asked for. The ECE has none: drawing images again
    adds their noise to every bin once more, so that draws lie above the value."""


def reliability(probs_n: NDArray[np.floating], positive_n: NDArray[np.bool_], *, num_bins: int) -> Bins:
    """Return the reliability curve over bins of equal mass; equal probabilities share a bin.

    The edges are quantiles of the probabilities, as in scikit-learn's `calibration_curve(strategy="quantile")`.

    Args:
        probs_n: probabilities in [0, 1], at least one.
        positive_n: whether an image has the finding.
        num_bins: bins; fewer are left where probabilities are equal.
    """
    probs_n = np.asarray(probs_n, dtype=np.float64)
    edges = np.percentile(probs_n, np.linspace(0, 1, num_bins + 1) * 100)
    bin_n = np.searchsorted(edges[1:-1], probs_n)
    count_b = np.bincount(bin_n, minlength=num_bins)
    there = count_b > 0
    count_b = count_b[there]

    def added(values_n: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.bincount(bin_n, weights=values_n, minlength=num_bins)[there].astype(np.float64)

    return Bins(
        probability_b=added(probs_n) / count_b,
        frequency_b=added(positive_n.astype(np.float64)) / count_b,
        count_b=count_b,
        variance_b=added(probs_n * (1 - probs_n)),
    )


def calibration(
    probs_n: NDArray[np.floating], positive_n: NDArray[np.bool_], *, num_bins: int = CALIBRATION_BINS
) -> Calibration:
    """Return Brier score and ECE of one finding that has both classes and finite probabilities.

    `ece_if_calibrated` is closed: where labels are drawn from the probabilities, a bin's sum of label - probability is
    nearly normal with variance sum p (1 - p), and the mean of its absolute value is sqrt(2 / pi) standard deviations.
    """
    probs_n = probs_n.astype(np.float64)
    brier = float(np.mean((probs_n - positive_n) ** 2))
    prevalence = float(positive_n.mean())
    bins = reliability(probs_n, positive_n, num_bins=num_bins)
    return Calibration(
        brier=brier,
        brier_skill=1 - brier / (prevalence * (1 - prevalence)),
        ece=float((bins.count_b * np.abs(bins.frequency_b - bins.probability_b)).sum() / len(probs_n)),
        ece_if_calibrated=float(math.sqrt(2 / math.pi) * np.sqrt(bins.variance_b).sum() / len(probs_n)),
    )
