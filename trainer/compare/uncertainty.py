"""How far a number that several seeds share a test set for may be off: training chance and the choice of patients.

Every method is trained once a seed, and all its runs are measured on the same patients, as the readers of a study read
the same cases. Two things could have come out otherwise, and both count:

    d_s       the number of seed s: a mean AUROC, or its difference to the baseline's of the same seed
    d         their mean over the n seeds
    V_seeds   sample variance of d_s over the seeds, divided by n
    V_tests   variance of d over bootstrap draws of the test patients (the same draws for all runs)

    d -/+ t(1 - alpha/2, df) sqrt(V_seeds + V_tests)        df = (n - 1) ((V_seeds + V_tests) / V_seeds)^2

The degrees of freedom are Satterthwaite's with V_tests taken as known. V_tests contains a share of the training chance
too, so that the interval is wide rather than narrow. One seed has no V_seeds: its interval speaks of other patients
only. Without draws it is the t interval over seeds, and speaks of other seeds only. Both end where the number itself
must: no AUROC is below 0 or above 1, which two seeds and a t quantile of 12.7 do not know.

The share of a gap is a ratio of two such numbers; its interval is Fieller's, which is bounded exactly where the gap's
own interval, at the same degrees of freedom, lies above 0. Otherwise there is no share.

Letters of the shapes: n seeds, D draws.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.compare.student_t import t_quantile
from trainer.evaluation.metrics import Interval

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number over seeds."""

    mean: float
    """Mean over the seeds."""

    num_seeds: int
    """How many those are."""

    sd: float | None
    """Standard deviation over the seeds (n - 1); None for one seed."""

    interval: Interval | None
    """95 % interval of both kinds of chance (without draws: of seeds); None where too little is known."""

    seeds_interval: Interval | None
    """95 % t interval over seeds, for these patients; None for one seed."""

    patients_interval: Interval | None
    """95 % percentile interval over draws of patients, for these models; None without draws."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """Part of the way from the baseline to the reference."""

    share: float
    """(method - baseline) / (reference - baseline)."""

    interval: Interval
    """95 % interval by Fieller's theorem."""


def estimate(
    value_n: NDArray[np.float64],
    draws_nD: NDArray[np.float64] | None,
    *,
    draws_expected: bool = False,
    within: Interval = (-math.inf, math.inf),
) -> Estimate:
    """Return the mean of `value_n` with its intervals.

    Args:
        value_n: one number a seed.
        draws_nD: the same numbers in draws of test patients, the same draws for all seeds; None: unknown.
        draws_expected: without draws there is no interval of both kinds of chance either, rather than one of seeds
            alone that is read as one of both.
        within: what the number can be; intervals are cut there.
    """
    num_seeds, mean = len(value_n), float(np.mean(value_n))
    variance_seeds, variance_tests, degrees = _variances(value_n[None], None if draws_nD is None else draws_nD[None])
    total = _sum(variance_seeds, variance_tests)
    return Estimate(
        mean=mean,
        num_seeds=num_seeds,
        sd=float(np.std(value_n, ddof=1)) if num_seeds > 1 else None,
        interval=None
        if total is None or (draws_expected and draws_nD is None)
        else _around(mean, float(total[0, 0]), degrees, within),
        seeds_interval=None
        if variance_seeds is None
        else _around(mean, float(variance_seeds[0, 0]), num_seeds - 1, within),
        patients_interval=None if draws_nD is None else _percentiles(draws_nD.mean(axis=0)),
    )


def share_of_gap(
    gain_n: NDArray[np.float64],
    gap_n: NDArray[np.float64],
    gain_draws_nD: NDArray[np.float64] | None,
    gap_draws_nD: NDArray[np.float64] | None,
) -> Share | None:
    """Return mean gain / mean gap with Fieller's interval; None where the gap may be 0 or below.

    Args:
        gain_n: method less baseline, one number a seed.
        gap_n: reference less baseline, of the same seeds.
        gain_draws_nD: gains in draws of patients; None: unknown.
        gap_draws_nD: gaps in the same draws.
    """
    draws = None if gain_draws_nD is None or gap_draws_nD is None else np.stack([gap_draws_nD, gain_draws_nD])
    variance_seeds, variance_tests, degrees = _variances(np.stack([gap_n, gain_n]), draws)
    covariance_22 = _sum(variance_seeds, variance_tests)
    if covariance_22 is None:
        return None
    gap, gain = float(np.mean(gap_n)), float(np.mean(gain_n))
    t2 = t_quantile((1 + CONFIDENCE) / 2, degrees) ** 2
    a = gap**2 - t2 * covariance_22[0, 0]
    if gap <= 0 or a <= 0:
        return None
    b = gap * gain - t2 * covariance_22[0, 1]
    c = gain**2 - t2 * covariance_22[1, 1]
    half = math.sqrt(max(b * b - a * c, 0.0))
    return Share(share=gain / gap, interval=(float((b - half) / a), float((b + half) / a)))


def _variances(
    value_kn: NDArray[np.float64], draws_knD: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, float]:
    """Return both covariances of the means of k numbers, and the degrees of freedom of the first one's interval."""
    num_seeds = value_kn.shape[1]
    seeds = np.cov(value_kn, ddof=1).reshape(len(value_kn), -1) / num_seeds if num_seeds > 1 else None
    tests = None
    if draws_knD is not None:
        mean_kD = draws_knD.mean(axis=1)
        tests = np.cov(mean_kD[:, np.isfinite(mean_kD).all(axis=0)], ddof=1).reshape(len(mean_kD), -1)
    if seeds is None or seeds[0, 0] == 0:
        return seeds, tests, math.inf if seeds is None or tests is not None else max(num_seeds - 1, 1)
    whole = seeds[0, 0] + (0.0 if tests is None else tests[0, 0])
    return seeds, tests, float((num_seeds - 1) * (whole / seeds[0, 0]) ** 2)


def _sum(one: NDArray[np.float64] | None, other: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    there = [part for part in (one, other) if part is not None]
    return sum(there[1:], start=there[0]) if there else None


def _around(mean: float, variance: float, degrees: float, within: Interval) -> Interval:
    half = t_quantile((1 + CONFIDENCE) / 2, degrees) * math.sqrt(variance)
    return max(mean - half, within[0]), min(mean + half, within[1])


def _percentiles(mean_D: NDArray[np.float64]) -> Interval | None:
    finite_D = mean_D[np.isfinite(mean_D)]
    if not len(finite_D):
        return None
    low, high = np.quantile(finite_D, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(low), float(high)
