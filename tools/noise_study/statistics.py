"""Paired intervals over seeds, and the share of a gap that a method closes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

NUM_DRAWS = 20_000
"""Bootstrap draws of seeds."""

T_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Number of seeds -> 97.5th percentile of Student's t with one degree of freedom less."""


class Estimate(NamedTuple):
    """A mean over seeds with its 95 % interval."""

    mean: float
    """The estimate."""

    low: float
    """Lower end."""

    high: float
    """Upper end."""


def paired_difference(method: ArrayLike, reference: ArrayLike) -> Estimate:
    """Return the mean of the differences seed by seed, with the t interval; NaN ends for a single seed."""
    differences = np.asarray(method, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    mean, num = float(differences.mean()), len(differences)
    if num < 2:
        return Estimate(mean, float("nan"), float("nan"))
    half = T_975[num] * float(differences.std(ddof=1)) / num**0.5
    return Estimate(mean, mean - half, mean + half)


def gap_share(method: ArrayLike, baseline: ArrayLike, bound: ArrayLike) -> Estimate:
    """Return mean(method - baseline) / mean(bound - baseline) with Fieller's interval over paired seeds.

    Fieller's set of ratios r are those for which mean(a - r b) is not significantly different from 0 by the paired t
    test, with a = method - baseline and b = bound - baseline; infinite ends where the gap itself may be 0.
    """
    gained = np.asarray(method, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    gap = np.asarray(bound, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    num = len(gained)
    ratio = float(gained.mean() / gap.mean())
    if num < 2:
        return Estimate(ratio, float("nan"), float("nan"))
    (var_a, cov), (_, var_b) = np.cov(gained, gap) * T_975[num] ** 2 / num
    # (mean_a - r mean_b)^2 <= var_a - 2 r cov + r^2 var_b, a quadratic inequality in r.
    a = gap.mean() ** 2 - var_b
    b = gained.mean() * gap.mean() - cov
    c = gained.mean() ** 2 - var_a
    if a <= 0:
        return Estimate(ratio, float("-inf"), float("inf"))
    root = max(b**2 - a * c, 0.0) ** 0.5
    return Estimate(ratio, float((b - root) / a), float((b + root) / a))
