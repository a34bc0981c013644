"""Thresholds come from validation by a stated rule; rates and counts on the test set are scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, roc_curve

from manifests.errors import ConfigError
from trainer.evaluation.bootstrap import BootstrapConfig, times_drawn
from trainer.evaluation.operating import FEWEST_TO_CHOOSE, Chosen, OperatingRule, apply, choose
from trainer.evaluation.predictions import Predictions
from trainer.evaluation.scorecard import scorecard, thresholds


def random_case(seed: int, num_images: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive_n = np.arange(num_images) < rng.integers(FEWEST_TO_CHOOSE, num_images - FEWEST_TO_CHOOSE + 1)
    probs_n = rng.integers(0, levels, num_images) / levels + 0.2 * positive_n
    return probs_n.astype(np.float32), positive_n


cases = given(
    seed=st.integers(0, 10**6),
    num_images=st.integers(2 * FEWEST_TO_CHOOSE, 200),
    levels=st.sampled_from([2, 7, 10**6]),
)


@settings(max_examples=100, deadline=None)
@cases
def test_youdens_threshold_is_the_best_point_of_scikit_learns_curve(seed: int, num_images: int, levels: int) -> None:
    probs_n, positive_n = random_case(seed, num_images, levels)
    fall_out_t, recall_t, threshold_t = roc_curve(positive_n, probs_n, drop_intermediate=False)
    chosen = choose(OperatingRule(), probs_n, positive_n)
    assert chosen is not None
    best = np.max((recall_t - fall_out_t)[1:])
    place = np.flatnonzero(threshold_t == chosen.threshold)[0]
    assert recall_t[place] - fall_out_t[place] == pytest.approx(best, abs=1e-9)
    assert chosen.sensitivity == pytest.approx(recall_t[place], abs=1e-9)
    assert chosen.specificity == pytest.approx(1 - fall_out_t[place], abs=1e-9)


def test_of_equally_good_thresholds_the_highest_is_chosen() -> None:
    # Youden's J is 0.5 from 0.9 up and from 0.4 up.
    chosen = choose(OperatingRule(), np.repeat((0.9, 0.5, 0.4, 0.1), 5), np.repeat((True, False, True, False), 5))
    assert chosen == Chosen(threshold=0.9, sensitivity=0.5, specificity=1.0, positives=10, negatives=10)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.5, 0.8, 0.9, 0.99]), levels=st.sampled_from([2, 7, 10**6]))
def test_a_rule_reaches_its_share_and_gives_nothing_away(seed: int, share: float, levels: int) -> None:
    probs_n, positive_n = random_case(seed, 60, levels)
    candidates = [
        Chosen(threshold=float(threshold), sensitivity=0, specificity=0, positives=0, negatives=0)
        for threshold in np.unique(probs_n)
    ]
    points = [apply(candidate, probs_n, positive_n) for candidate in candidates]
    every = [(point.sensitivity or 0.0, point.specificity or 0.0) for point in points]
    by_sensitivity = choose(OperatingRule(name="sensitivity", at_least=share), probs_n, positive_n)
    assert by_sensitivity is not None
    assert by_sensitivity.sensitivity >= share
    assert by_sensitivity.specificity == max(specificity for sensitivity, specificity in every if sensitivity >= share)
    by_specificity = choose(OperatingRule(name="specificity", at_least=share), probs_n, positive_n)
    reached = [sensitivity for sensitivity, specificity in every if specificity >= share]
    assert (by_specificity is None) == (not reached)
    if by_specificity is not None:
        assert by_specificity.specificity >= share
        assert by_specificity.sensitivity == max(reached)


@settings(max_examples=50, deadline=None)
@cases
def test_counts_and_rates_are_those_of_the_confusion_matrix(seed: int, num_images: int, levels: int) -> None:
    probs_n, positive_n = random_case(seed, num_images, levels)
    chosen = choose(OperatingRule(), probs_n, positive_n)
    assert chosen is not None
    test_probs_n, test_positive_n = random_case(seed + 1, num_images, levels)
    point = apply(chosen, test_probs_n, test_positive_n)
    called_n = test_probs_n >= np.float32(chosen.threshold)
    (tn, fp), (fn, tp) = confusion_matrix(test_positive_n, called_n, labels=[False, True])
    assert (point.true_negatives, point.false_positives, point.false_negatives, point.true_positives) == (
        tn,
        fp,
        fn,
        tp,
    )
    for rate, right, wrong in (
        (point.sensitivity, tp, fn),
        (point.specificity, tn, fp),
        (point.ppv, tp, fp),
        (point.npv, tn, fn),
    ):
        assert rate == (pytest.approx(right / (right + wrong), abs=1e-9) if right + wrong else None)


@pytest.mark.parametrize("rule", [OperatingRule(), OperatingRule(name="sensitivity", at_least=0.9)])
def test_too_few_images_or_a_broken_probability_choose_nothing(rule: OperatingRule) -> None:
    probs_n, positive_n = np.linspace(0, 1, 20), np.arange(20) >= 20 - FEWEST_TO_CHOOSE + 1
    assert choose(rule, probs_n, positive_n) is None
    assert choose(rule, probs_n, ~positive_n) is None
    enough_n = np.arange(20) >= 20 - FEWEST_TO_CHOOSE
    assert choose(rule, probs_n, enough_n) is not None
    probs_n[3] = np.nan
    assert choose(rule, probs_n, enough_n) is None


@pytest.mark.parametrize(
    ("name", "at_least"), [("youden", 0.9), ("sensitivity", None), ("specificity", 1.0), ("sensitivity", 0.0)]
)
def test_a_rule_that_cannot_be_is_refused(name: str, at_least: float | None) -> None:
    with pytest.raises(ConfigError):
        OperatingRule(name=name, at_least=at_least)  # type: ignore[arg-type]


def predictions(seed: int, num_images: int = 160) -> Predictions:
    rng = np.random.default_rng(seed)
    targets_nC = (rng.random((num_images, 2)) < 0.4).astype(np.float32)
    return Predictions(
        findings=("Effusion", "Hernia"),
        sample_index_n=np.arange(num_images),
        image_id_n=[f"{i}.png" for i in range(num_images)],
        patient_id_n=[f"nih:{i // 2:03d}" for i in range(num_images)],
        probs_nC=(0.3 * targets_nC + 0.7 * rng.random((num_images, 2))).astype(np.float32),
        targets_nC=targets_nC,
        mask_nC=rng.random((num_images, 2)) < 0.9,
    )


def test_thresholds_are_of_the_labelled_validation_images_and_intervals_of_the_repeated_test_images() -> None:
    chosen = thresholds(predictions(1), OperatingRule())
    test = predictions(2)
    config = BootstrapConfig(draws=200, seed=4)
    metrics = scorecard(test, config, min_positives=10, chosen=chosen)
    times_ND = times_drawn(80, 200, np.random.default_rng(4))[np.arange(160) // 2]
    for column, entry in enumerate(metrics.findings):
        own = chosen[entry.finding]
        assert own is not None
        labelled_n = predictions(1).mask_nC[:, column]
        assert own.positives + own.negatives == labelled_n.sum()
        assert entry.operating_point is not None
        assert entry.operating_point.chosen == own
        mask_n, positive_n = test.mask_nC[:, column], test.targets_nC[:, column] > 0.5
        called_n = test.probs_nC[:, column] >= own.threshold
        for interval, of_n, right_n in (
            (entry.operating_point.sensitivity_interval, positive_n, called_n),
            (entry.operating_point.specificity_interval, ~positive_n, ~called_n),
            (entry.operating_point.ppv_interval, called_n, positive_n),
            (entry.operating_point.npv_interval, ~called_n, ~positive_n),
        ):
            all_D, right_D = (times_ND[mask_n & of_n].sum(axis=0), times_ND[mask_n & of_n & right_n].sum(axis=0))
            assert interval == pytest.approx(np.quantile(right_D / all_D, (0.025, 0.975)), abs=1e-9)


def test_a_finding_without_a_threshold_has_no_operating_point() -> None:
    metrics = scorecard(predictions(2), BootstrapConfig(draws=0), min_positives=10, chosen={"Hernia": None})
    assert [entry.operating_point for entry in metrics.findings] == [None, None]
