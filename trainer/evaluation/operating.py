"""Operating points: a threshold that is chosen on validation and applied, unchanged, to a test set.

Letters of the shapes: n images of one finding, t distinct probabilities.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from manifests.errors import ConfigError
from trainer.evaluation.calibration import Interval

RuleName = Literal["youden", "sensitivity", "specificity"]

FEWEST_TO_CHOOSE = 5
"""Positives, and negatives, on validation below which no threshold is chosen: it would be one image's probability."""


@dataclass(frozen=True, kw_only=True)
class OperatingRule:
    """How a threshold is chosen among the probabilities of the validation images."""

    name: RuleName = "youden"
    """`youden`: sensitivity + specificity - 1 is largest (Youden, Cancer 1950); `sensitivity`: the highest threshold
    that has at least so much of it; `specificity`: the lowest one that has at least so much of it."""

    at_least: float | None = None
    """Share between 0 and 1 that the validation images must reach; None for `youden`."""

    def __post_init__(self) -> None:
        if self.name == "youden":
            if self.at_least is not None:
                raise ConfigError("an operating point by Youden's J has no share to reach; leave it out")
        elif self.at_least is None or not 0 < self.at_least < 1:
            raise ConfigError(f"--{self.name} {self.at_least}: expected a share between 0 and 1, as 0.9")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A threshold and what it does on the validation images."""

    threshold: float
    """An image is called positive from this probability up."""

    sensitivity: float
    """On validation, which chose it: better than what to expect elsewhere."""

    specificity: float
    """As above."""

    positives: int
    """Validation images that have the finding."""

    negatives: int
    """Validation images that do not."""


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """What a threshold does on the test set; rates in [0, 1], None where their denominator is 0."""

    chosen: Chosen
    """The threshold and where it comes from."""

    true_positives: int
    """Images with the finding, called positive."""

    false_positives: int
    """Images without it, called positive."""

    false_negatives: int
    """Images with it, called negative."""

    true_negatives: int
    """Images without it, called negative."""

    sensitivity: float | None
    """Share of the images with the finding that are called positive."""

    specificity: float | None
    """Share of the images without it that are called negative."""

    ppv: float | None
    """Share of those called positive that have it: holds at this test set's prevalence only."""

    npv: float | None
    """Share of those called negative that do not have it: as above."""

    sensitivity_interval: Interval | None = None
    """Over the draws of the test set, the threshold unchanged; None: too few cases, or not asked for."""

    specificity_interval: Interval | None = None
    """As above."""

    ppv_interval: Interval | None = None
    """As above."""

    npv_interval: Interval | None = None
    """As above."""


def choose(rule: OperatingRule, probs_n: NDArray[np.floating], positive_n: NDArray[np.bool_]) -> Chosen | None:
    """Return the threshold that `rule` chooses among the probabilities; of equally good ones the highest.

    None where fewer than `FEWEST_TO_CHOOSE` images have the finding or do not, a probability is not finite, or no
    threshold reaches what the rule asks for.
    """
    positives, negatives = int(positive_n.sum()), int((~positive_n).sum())
    if min(positives, negatives) < FEWEST_TO_CHOOSE or not np.isfinite(probs_n).all():
        return None
    order_n = np.argsort(-probs_n, kind="stable")
    falling_n = probs_n[order_n]
    last_t = np.flatnonzero(np.r_[falling_n[:-1] != falling_n[1:], True])
    sensitivity_t = np.cumsum(positive_n[order_n])[last_t] / positives
    specificity_t = (negatives - np.cumsum(~positive_n[order_n])[last_t]) / negatives
    share = rule.at_least or 0.0
    if rule.name == "youden":
        place = int(np.argmax(sensitivity_t + specificity_t))
    elif rule.name == "sensitivity":
        place = int(np.flatnonzero(sensitivity_t >= share)[0])
    else:
        enough_t = np.flatnonzero(specificity_t >= share)
        if not len(enough_t):  # too many negatives share the highest probability
            return None
        place = int(enough_t[-1])
    return Chosen(
        threshold=float(falling_n[last_t[place]]),
        sensitivity=float(sensitivity_t[place]),
        specificity=float(specificity_t[place]),
        positives=positives,
        negatives=negatives,
    )


def apply(chosen: Chosen, probs_n: NDArray[np.floating], positive_n: NDArray[np.bool_]) -> OperatingPoint:
    """Return what the threshold does on the images of a test set."""
    called_n = probs_n >= chosen.threshold
    true_positives, false_positives = int((called_n & positive_n).sum()), int((called_n & ~positive_n).sum())
    false_negatives, true_negatives = int((~called_n & positive_n).sum()), int((~called_n & ~positive_n).sum())
    return OperatingPoint(
        chosen=chosen,
        true_positives=true_positives,
        false_positives=false_positives,
        false_negatives=false_negatives,
        true_negatives=true_negatives,
        sensitivity=_share(true_positives, false_negatives),
        specificity=_share(true_negatives, false_positives),
        ppv=_share(true_positives, false_positives),
        npv=_share(true_negatives, false_negatives),
    )


def _share(count: int, others: int) -> float | None:
    return count / (count + others) if count + others else None
