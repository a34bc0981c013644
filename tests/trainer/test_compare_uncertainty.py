"""Intervals over seeds and patients: quantiles against SciPy, Fieller against a search, coverage by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from trainer.compare.student_t import t_quantile
from trainer.compare.uncertainty import estimate, share_of_gap

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("probability", [0.75, 0.9, 0.975, 0.9995])
@pytest.mark.parametrize("degrees", [0.5, 1, 2, 2.7, 9, 100.3, 1e4, math.inf])
def test_t_quantiles_are_those_of_scipy(probability: float, degrees: float) -> None:
    expected = stats.t.ppf(probability, degrees) if math.isfinite(degrees) else stats.norm.ppf(probability)
    assert t_quantile(probability, degrees) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("probability", "degrees"), [(0.5, 3), (1.0, 3), (0.9, 0)])
def test_quantiles_that_are_not_asked_for(probability: float, degrees: float) -> None:
    with pytest.raises(ValueError, match="expected a probability"):
        t_quantile(probability, degrees)


def test_without_draws_it_is_the_t_interval_over_seeds() -> None:
    value_n = np.array([0.1, 0.3, 0.25, 0.2])
    found = estimate(value_n, None)
    low, high = stats.t.interval(0.95, 3, loc=value_n.mean(), scale=stats.sem(value_n))
    assert found.interval == pytest.approx((low, high))
    assert found.interval == found.seeds_interval
    assert found.patients_interval is None
    assert found.sd == pytest.approx(value_n.std(ddof=1))


def test_where_draws_were_to_be_had_seeds_alone_are_no_interval_of_both() -> None:
    found = estimate(np.array([0.1, 0.3]), None, draws_expected=True)
    assert found.interval is None
    assert found.seeds_interval is not None


def test_one_seed_has_the_interval_of_the_patients_alone() -> None:
    draws_1D = RNG.normal(0.2, 0.01, (1, 4000))
    found = estimate(np.array([0.2]), draws_1D)
    assert (found.num_seeds, found.sd, found.seeds_interval) == (1, None, None)
    half = stats.norm.ppf(0.975) * draws_1D.std(ddof=1)
    assert found.interval == pytest.approx((0.2 - half, 0.2 + half))
    assert found.patients_interval == pytest.approx(found.interval, abs=2e-3)


def test_variances_add_up_and_degrees_are_satterthwaites() -> None:
    value_n, draws_nD = np.array([0.1, 0.2, 0.4]), RNG.normal(0, 0.05, (3, 3000))
    seeds, tests = value_n.var(ddof=1) / 3, draws_nD.mean(axis=0).var(ddof=1)
    degrees = (seeds + tests) ** 2 / (seeds**2 / 2)
    half = stats.t.ppf(0.975, degrees) * math.sqrt(seeds + tests)
    assert estimate(value_n, draws_nD).interval == pytest.approx((value_n.mean() - half, value_n.mean() + half))


def test_seeds_that_agree_to_the_bit_leave_the_patients_chance() -> None:
    draws_nD = np.tile(RNG.normal(0, 0.05, 3000), (2, 1))
    found = estimate(np.array([0.1, 0.1]), draws_nD)
    half = stats.norm.ppf(0.975) * draws_nD[0].std(ddof=1)
    assert found.interval == pytest.approx((0.1 - half, 0.1 + half))
    assert found.seeds_interval == (0.1, 0.1)


def test_draws_without_a_value_are_left_out() -> None:
    draws_nD = RNG.normal(0, 0.05, (2, 1000))
    with_gaps = np.concatenate([draws_nD, np.full((2, 7), np.nan)], axis=1)
    value_n = np.array([0.1, 0.2])
    assert estimate(value_n, with_gaps) == estimate(value_n, draws_nD)


@pytest.mark.parametrize(("sd_seeds", "sd_patients"), [(0.02, 0.0), (0.02, 0.02), (0.005, 0.03), (0.0, 0.02)])
def test_the_interval_holds_the_truth_as_often_as_it_says(sd_seeds: float, sd_patients: float) -> None:
    """A difference of 0.1 that three seeds and one set of patients blur, measured 800 times."""
    num_trials, held = 800, 0
    for _ in range(num_trials):
        of_patients = RNG.normal(0, sd_patients)
        value_n = 0.1 + of_patients + RNG.normal(0, sd_seeds, 3)
        draws_nD = value_n[:, None] + RNG.normal(0, sd_patients, 100)[None]
        low, high = estimate(value_n, draws_nD).interval or (1, 0)
        held += low <= 0.1 <= high
    assert 0.93 < held / num_trials <= 0.985


def test_fiellers_interval_is_where_no_share_is_refused() -> None:
    gap_n, gain_n = np.array([0.15, 0.17, 0.13, 0.16]), np.array([0.03, 0.05, 0.02, 0.06])
    shared = RNG.normal(0, 0.01, 500)
    gap_draws, gain_draws = gap_n[:, None] + 2 * shared, gain_n[:, None] + shared + RNG.normal(0, 0.004, (4, 500))
    found = share_of_gap(gain_n, gap_n, gain_draws, gap_draws)
    assert found is not None
    assert found.share == pytest.approx(gain_n.mean() / gap_n.mean())
    covariance = np.cov(gap_n, gain_n) / 4 + np.cov(gap_draws.mean(axis=0), gain_draws.mean(axis=0))
    degrees = 3 * (covariance[0, 0] / (gap_n.var(ddof=1) / 4)) ** 2
    share_S = np.linspace(-1, 2, 300_001)
    statistic_S = (gain_n.mean() - share_S * gap_n.mean()) ** 2 / (
        covariance[1, 1] - 2 * share_S * covariance[0, 1] + share_S**2 * covariance[0, 0]
    )
    kept_S = share_S[statistic_S <= stats.t.ppf(0.975, degrees) ** 2]
    assert found.interval == pytest.approx((kept_S[0], kept_S[-1]), abs=2e-5)


@pytest.mark.parametrize("gap", [0.02, -0.5])
def test_no_gap_no_share(gap: float) -> None:
    gap_n = gap + np.array([-0.03, 0.0, 0.03])
    assert (estimate(gap_n, None).interval or (1, 1))[0] < 0
    assert share_of_gap(np.array([0.1, 0.1, 0.12]), gap_n, None, None) is None


def test_a_share_of_one_seed_without_draws_is_not_known() -> None:
    assert share_of_gap(np.array([0.1]), np.array([0.2]), None, None) is None
