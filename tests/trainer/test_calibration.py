"""Brier scores and reliability curves are scikit-learn's; the error by chance is what calibrated labels give."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from trainer.evaluation.bootstrap import BootstrapConfig, times_drawn
from trainer.evaluation.calibration import CALIBRATION_BINS, calibration, reliability
from trainer.evaluation.predictions import Predictions
from trainer.evaluation.scorecard import scorecard
from trainer.report.calibration import wilson


def random_case(seed: int, num_images: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with ties, as float32, and labels of which both classes are there."""
    rng = np.random.default_rng(seed)
    probs_n = (rng.integers(0, levels + 1, num_images) / levels).astype(np.float32)
    positive_n = rng.random(num_images) < 0.3
    positive_n[:2] = True, False
    return probs_n, positive_n


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_images=st.integers(2, 300),
    levels=st.sampled_from([1, 3, 20, 10**6]),
    num_bins=st.integers(1, 20),
)
def test_brier_score_and_reliability_are_scikit_learns(seed: int, num_images: int, levels: int, num_bins: int) -> None:
    probs_n, positive_n = random_case(seed, num_images, levels)
    double_n = probs_n.astype(np.float64)
    frequency_b, probability_b = calibration_curve(positive_n, double_n, n_bins=num_bins, strategy="quantile")
    bins = reliability(probs_n, positive_n, num_bins=num_bins)
    assert np.allclose(bins.frequency_b, frequency_b, rtol=0, atol=1e-9)
    assert np.allclose(bins.probability_b, probability_b, rtol=0, atol=1e-9)
    found = calibration(probs_n, positive_n, num_bins=num_bins)
    assert found.brier == pytest.approx(brier_score_loss(positive_n, double_n), abs=1e-9)
    weights_b = bins.count_b / num_images
    assert bins.count_b.sum() == num_images
    assert found.ece == pytest.approx((weights_b * np.abs(frequency_b - probability_b)).sum(), abs=1e-9)


def test_the_prevalence_has_no_skill_and_no_error() -> None:
    positive_n = np.arange(1000) < 250
    found = calibration(np.full(1000, 0.25), positive_n)
    assert found.brier_skill == pytest.approx(0, abs=1e-12)
    assert found.ece == pytest.approx(0, abs=1e-12)
    assert calibration(positive_n.astype(float), positive_n).brier_skill == 1
    assert calibration(np.full(1000, 0.9), positive_n).brier_skill < 0


def test_the_error_by_chance_is_that_of_labels_drawn_from_the_probabilities() -> None:
    rng = np.random.default_rng(0)
    probs_n = rng.beta(1, 6, 3000)
    drawn = [calibration(probs_n, rng.random(3000) < probs_n) for _ in range(300)]
    assert drawn[0].ece_if_calibrated == drawn[1].ece_if_calibrated
    # 300 draws of a mean whose spread is about a fifth of it: two standard errors are 2 %.
    assert np.mean([found.ece for found in drawn]) == pytest.approx(drawn[0].ece_if_calibrated, rel=0.05)
    assert calibration(probs_n**0.5, rng.random(3000) < probs_n).ece > 5 * drawn[0].ece_if_calibrated


@pytest.mark.parametrize("num_images", [1, 2, CALIBRATION_BINS - 1])
def test_few_images_have_few_bins_and_no_error(num_images: int) -> None:
    bins = reliability(np.linspace(0, 1, num_images), np.arange(num_images) % 2 == 0, num_bins=CALIBRATION_BINS)
    assert len(bins.count_b) == num_images
    assert np.isfinite(bins.frequency_b).all()


def test_the_interval_of_the_brier_score_is_that_of_the_repeated_images() -> None:
    rng = np.random.default_rng(3)
    num_images = 120
    targets_nC = (rng.random((num_images, 1)) < 0.4).astype(np.float32)
    patient_n = np.arange(num_images) // 2
    predictions = Predictions(
        findings=("Effusion",),
        sample_index_n=np.arange(num_images),
        image_id_n=[f"{i}.png" for i in range(num_images)],
        patient_id_n=[f"nih:{patient:03d}" for patient in patient_n],
        probs_nC=rng.random((num_images, 1)).astype(np.float32),
        targets_nC=targets_nC,
        mask_nC=rng.random((num_images, 1)) < 0.9,
    )
    config = BootstrapConfig(draws=200, seed=5)
    (entry,) = scorecard(predictions, config, min_positives=10, chosen={}).findings
    times_ND = times_drawn(patient_n.max() + 1, 200, np.random.default_rng(5))[patient_n]
    mask_n = predictions.mask_nC[:, 0]
    probs_n = predictions.probs_nC[mask_n, 0].astype(np.float64)
    drawn = [
        brier_score_loss(np.repeat(targets_nC[mask_n, 0], times_n), np.repeat(probs_n, times_n))
        for times_n in times_ND[mask_n].T
    ]
    assert entry.calibration is not None
    assert entry.calibration.brier_interval == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=1e-6)
    assert entry.operating_point is None


def test_wilsons_ends_solve_their_equation() -> None:
    share_b, count_b = np.array([0, 0.02, 0.5, 1.0]), np.array([10, 50, 7, 3])
    for end_b in wilson(share_b, count_b):
        # The ends are the p whose distance to the share is 1.96 of their own standard errors.
        assert np.allclose((share_b - end_b) ** 2, 1.959964**2 * end_b * (1 - end_b) / count_b, atol=1e-12)
