"""The noise study: its draws, its statistics against other ways to them, its rows on disk, and that it runs."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from tools.demo import QUICK
from tools.noise_probe import draw_rows, make_rows
from tools.noise_study.__main__ import run_once
from tools.noise_study.films import train_on_films
from tools.noise_study.methods import METHODS, StudyMethod
from tools.noise_study.records import Outcome, Row, append, chosen_trial, read
from tools.noise_study.statistics import gap_share, paired_difference
from tools.noise_study.tables import tables
from tools.noise_study.training import History, train
from tools.noise_study.variants import VARIANTS, State, cross_fitted, estimated_rates, train_variant
from trainer.relay import RelayConfig, assumed_rates


def test_more_draws_leave_training_and_test_rows_as_they_are() -> None:
    for rows, again in zip(make_rows(3, 200), draw_rows(3, 200, num_draws=3), strict=False):
        assert all(bool((a == b).all()) for a, b in zip(rows, again, strict=True))


def test_trials_of_all_methods_share_what_they_have_in_common_and_stay_the_same() -> None:
    trials = {name: method.trial(5) for name, method in METHODS.items()}
    for name in ("weight_decay", "dropout", "ema_lag"):
        assert len({trial[name] for trial in trials.values() if name in trial}) == 1
    assert "ema_lag" not in trials["bce"]
    assert trials["relay"] == METHODS["relay"].trial(5) != METHODS["relay"].trial(6)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains(name: str) -> None:
    history = train(METHODS[name], METHODS[name].trial(0), 1, num_epochs=5, num_rows=512)
    assert len(history.valid) == 5
    assert 0.4 < history.chosen_test < 1
    assert not math.isnan(history.test[-1])


def test_validation_chooses_and_patience_ends() -> None:
    assert History([0.6, 0.7, 0.65], [0.8, 0.9, math.nan], [True] * 3).chosen_test == 0.9
    assert History([0.7, 0.6, 0.65], [0.9, 0.7, 0.8], [False, True, True]).chosen_test == 0.8
    settings = {"weight_decay": 0.01, "dropout": 0.0}
    whole = train(METHODS["bce"], settings, 1, num_epochs=60, num_rows=512)
    ended = train(METHODS["bce"], settings, 1, num_epochs=60, num_rows=512, patience=5)
    assert ended.best_epoch + 5 == len(ended.valid) - 1
    assert whole.valid[: len(ended.valid)] == ended.valid


def test_the_interval_of_a_paired_difference_is_students() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(2, 10))
    found = paired_difference(one, other)
    low, high = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-3)


def test_the_ends_of_a_gap_share_are_where_the_paired_test_begins_to_refuse() -> None:
    draw = np.random.default_rng(1)
    baseline = draw.normal(0.88, 0.01, 10)
    bound, method = baseline + draw.normal(0.08, 0.005, 10), baseline + draw.normal(0.04, 0.006, 10)
    found = gap_share(method, baseline, bound)
    assert found.mean == pytest.approx((method - baseline).mean() / (bound - baseline).mean())
    for ratio in (found.low, found.high):
        refused = stats.ttest_1samp(method - baseline - ratio * (bound - baseline), 0).pvalue
        assert refused == pytest.approx(0.05, abs=1e-3)


def test_a_share_of_a_gap_that_may_be_nothing_is_unknown() -> None:
    share = gap_share([0.1, 0.3, 0.2], [0.0, 0.2, 0.1], [0.1, 0.1, 0.15])
    assert (share.low, share.high) == (-math.inf, math.inf)


def test_what_is_on_disk_is_not_computed_again(tmp_path: Path) -> None:
    asked: list[int] = []

    def training(method: StudyMethod, settings: object, seed: int) -> Outcome:
        asked.append(seed)
        return Outcome(valid=0.6 + seed / 100, test=0.8, last=None, epoch=3)

    path = tmp_path / "rows.csv"
    for seed in (1, 2, 1):
        run_once(path, training, "bce", 0, seed)
    assert asked == [1, 2]
    assert read(path)["bce", 0, 2].outcome == Outcome(0.62, 0.8, None, 3)


def test_the_table_says_what_the_rows_say(tmp_path: Path) -> None:
    """Clean .96, best baseline .88, ours .92: half of the gap, of the trial that validation chose."""
    trials, seeds = tmp_path / "trials.csv", tmp_path / "seeds.csv"
    level = {"clean labels": 0.96, "bce": 0.87, "bce + EMA": 0.88, "relay": 0.92}
    for name, test in level.items():
        for trial, valid in enumerate((0.6, 0.7)):
            row = Row(method=name, trial=trial, seed=100, outcome=Outcome(valid, 0.5, None, 1), settings=f"t={trial}")
            append(trials, row, {})
        for seed in range(3):
            outcome = Outcome(0.7, test + 0.001 * seed, test, 1)
            append(seeds, Row(method=name, trial=1, seed=seed, outcome=outcome, settings="t=1"), {})
    assert chosen_trial(read(trials), "relay", num_trials=2, seeds=[100]) == 1
    text = tables(read(seeds), dict.fromkeys(level, 1))
    assert "clean labels less bce + EMA, 0.0800" in text
    assert "| relay | 0.9210 +- 0.0010 | 0.9200 +- 0.0000 | +0.0400 (+0.0400 to +0.0400) | 50 % (50 to 50) |" in text
    assert "| relay | 1 | t=1 |" in text


@pytest.mark.soak
def test_it_runs_on_films(tmp_path: Path) -> None:
    method = METHODS["relay"]
    outcome = train_on_films(method, method.trial(0), 0, folder=tmp_path, size=QUICK, min_positives=1)
    assert 0 < outcome.valid < 1
    assert outcome.last is not None
    assert 1 <= outcome.epoch <= QUICK.num_epochs


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains(name: str) -> None:
    assert all(0.4 < value < 1 for value in train_variant(name, 1, num_epochs=14, num_rows=512))


def test_cross_fitting_trains() -> None:
    assert all(0.4 < value < 1 for value in cross_fitted(1, num_folds=2, num_epochs=2, num_rows=512))


def test_em_finds_the_rates_of_labels_whose_truth_is_remembered() -> None:
    draw = torch.Generator().manual_seed(0)
    truth_NC = torch.rand(40_000, 2, generator=draw) < 0.2
    labels_NC = torch.rand(40_000, 2, generator=draw) < torch.where(truth_NC, 0.6, 0.1)
    start = assumed_rates(torch.logit(labels_NC.double().mean(dim=0)), RelayConfig())
    state = State(labels_NC.float(), start, torch.where(truth_NC, 8.0, -8.0), torch.ones(40_000))
    rates = estimated_rates(state)
    torch.testing.assert_close(rates.log_hit_C.exp(), torch.full((2,), 0.6).double(), atol=0.03, rtol=0)
    torch.testing.assert_close(rates.log_false_C.exp(), torch.full((2,), 0.1).double(), atol=0.01, rtol=0)
