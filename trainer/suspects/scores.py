"""How suspicious a label is: how far it is from what the run thinks, in one measure for all findings and both sides.

A label y is as suspicious as |y - p| says, p being the run's probability of the finding with the prior put back: all
logits of a finding are moved by one number such that the mean of p is the share of labels "present". A loss that moves
or stretches probabilities (asymmetric, adjusted, regularised) is so brought to one scale, and "labelled, but not seen"
and "seen, but not labelled" can stand in one list. An image is as suspicious as the number of its labels that are wrong
if p is right: the sum over findings.

Letters of the shapes: n training rows, C outputs.
"""

import numpy as np
import numpy.typing as npt

from manifests.findings import NO_FINDING
from manifests.table import BoolArray

SMALLEST = 1e-6
"""Probabilities lie in [SMALLEST, 1 - SMALLEST] before their logits are taken."""

HALVINGS = 60
"""Of the interval in which a finding's shift is looked for."""

WIDEST = 40.0
"""Largest shift of logits."""

Floats = npt.NDArray[np.float64]


def with_prior(probs_nC: npt.NDArray[np.floating], labels_nC: BoolArray, mask_nC: BoolArray) -> Floats:
    """Return float64 [n, C]: probabilities of which the mean over labelled images is the share labelled present.

    NaN stays NaN. Where all labels of a finding, or none, are present, probabilities stay as they are.
    """
    known_nC = mask_nC & ~np.isnan(probs_nC)
    logits_nC = np.where(known_nC, _logit(np.clip(np.nan_to_num(probs_nC), SMALLEST, 1 - SMALLEST)), 0.0)
    num_C = np.maximum(known_nC.sum(axis=0), 1)
    share_C = (labels_nC & known_nC).sum(axis=0) / num_C
    low_C, high_C = np.full(len(share_C), -WIDEST), np.full(len(share_C), WIDEST)
    for _ in range(HALVINGS):
        shift_C = (low_C + high_C) / 2
        mean_C = np.where(known_nC, _sigmoid(logits_nC + shift_C), 0.0).sum(axis=0) / num_C
        low_C, high_C = np.where(mean_C < share_C, shift_C, low_C), np.where(mean_C < share_C, high_C, shift_C)
    shift_C = np.where((share_C > 0) & (share_C < 1), (low_C + high_C) / 2, 0.0)
    logits_nC = _logit(np.clip(np.nan_to_num(probs_nC), SMALLEST, 1 - SMALLEST))
    return np.where(np.isnan(probs_nC), np.nan, _sigmoid(logits_nC + shift_C))


def suspicion(probs_nC: Floats, labels_nC: BoolArray, mask_nC: BoolArray) -> Floats:
    """Return float64 [n, C] in [0, 1]: |label - probability|; NaN where there is no label or no opinion."""
    return np.where(mask_nC, np.abs(labels_nC - probs_nC), np.nan)


def image_suspicion(suspicion_nC: Floats, findings: tuple[str, ...]) -> Floats:
    """Return float64 [n]: how many labels of each image are wrong, as far as the run can tell.

    No Finding is left out: where another label is wrong, so is it.
    """
    counts_C = np.array([name != NO_FINDING for name in findings])
    return np.asarray(np.nansum(suspicion_nC[:, counts_C], axis=1))


def most_suspicious(values_n: Floats) -> npt.NDArray[np.int64]:
    """Return the positions of the values that are there, the largest first; of equal ones the first in the pack."""
    order_n = np.argsort(np.where(np.isnan(values_n), np.inf, -values_n), kind="stable")
    return order_n[: int((~np.isnan(values_n)).sum())]


def _logit(probs: Floats) -> Floats:
    return np.asarray(np.log(probs) - np.log1p(-probs))


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(logits / 2)))
