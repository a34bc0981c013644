"""Draws equal scikit-learn on the images that were drawn; intervals hold what they say they hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from manifests.errors import ConfigError
from trainer.evaluation import bootstrap as module
from trainer.evaluation.bootstrap import (
    BootstrapConfig,
    Draws,
    Resampling,
    bag_sums,
    bootstrap,
    cut,
    from_bag_sums,
    times_drawn,
)


def random_case(seed: int, num_images: int, num_levels: int, num_findings: int = 3) -> tuple[np.ndarray, ...]:
    """Scores on a few levels, targets, a mask, and patients of about two images."""
    rng = np.random.default_rng(seed)
    shape = (num_images, num_findings)
    scores_NC = (rng.integers(0, num_levels, shape) / num_levels).astype(np.float32)
    patient_N = np.unique(rng.integers(0, max(num_images // 2, 1), num_images), return_inverse=True)[1]
    return scores_NC, (rng.random(shape) < 0.3).astype(np.float32), rng.random(shape) < 0.8, patient_N


def by_scikit_learn(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Both measures of the images repeated as often as they were drawn."""
    scores, targets = np.repeat(scores, weights), np.repeat(targets, weights)
    if len(set(targets)) < 2:
        return np.nan, np.nan
    return roc_auc_score(targets, scores), average_precision_score(targets, scores)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), num_images=st.integers(2, 80), num_levels=st.sampled_from([1, 2, 5, 1000]))
def test_every_draw_equals_scikit_learn_on_the_images_drawn(seed: int, num_images: int, num_levels: int) -> None:
    scores_NC, targets_NC, mask_NC, patient_N = random_case(seed, num_images, num_levels)
    config = BootstrapConfig(draws=100, seed=seed)
    draws = bootstrap(scores_NC, targets_NC, mask_NC, patient_N, config)
    rng = np.random.default_rng(seed)
    weights_NB = times_drawn(patient_N.max() + 1, 100, rng)[patient_N]
    for column in range(3):
        kept = mask_NC[:, column]
        for draw in (0, 57, 99):
            expected = by_scikit_learn(scores_NC[kept, column], targets_NC[kept, column], weights_NB[kept, draw])
            found = (draws.auroc_DC[draw, column], draws.average_precision_DC[draw, column])
            assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), num_images=st.integers(10, 400), num_levels=st.sampled_from([2, 30, 10**6]))
def test_the_images_themselves_equal_scikit_learn(seed: int, num_images: int, num_levels: int) -> None:
    scores_NC, targets_NC, _, _ = random_case(seed, num_images, num_levels, 1)
    targets_NC[:2, 0] = 0, 1
    bags = cut(scores_NC[:, 0], targets_NC[:, 0] > 0.5, np.ones(num_images, bool))
    auroc_B, precision_B = from_bag_sums(bag_sums(bags, module._as_weights(np.ones((num_images, 1), np.int32))))
    assert auroc_B[0] == pytest.approx(roc_auc_score(targets_NC[:, 0], scores_NC[:, 0]), abs=1e-9)
    assert precision_B[0] == pytest.approx(average_precision_score(targets_NC[:, 0], scores_NC[:, 0]), abs=1e-9)


@pytest.mark.parametrize("resampling", ["patient", "stratified"])
def test_chunks_beyond_the_first_are_draws_like_any_other(resampling: Resampling) -> None:
    scores_NC, targets_NC, mask_NC, patient_N = random_case(1, 200, 50)
    config = BootstrapConfig(draws=module.CHUNK + 100, resampling=resampling)
    draws = bootstrap(scores_NC, targets_NC, mask_NC, patient_N, config)
    assert np.isfinite(draws.auroc_DC).all()
    assert np.isfinite(draws.average_precision_DC).all()
    assert len(np.unique(draws.auroc_DC[:, 0])) > module.CHUNK


def test_two_models_are_measured_on_the_same_draws() -> None:
    scores_NC, targets_NC, mask_NC, patient_N = random_case(2, 150, 1000)
    draws = bootstrap(scores_NC, targets_NC, mask_NC, patient_N, BootstrapConfig(draws=100))
    negated = bootstrap(-scores_NC, targets_NC, mask_NC, patient_N, BootstrapConfig(draws=100))
    assert np.allclose(draws.auroc_DC + negated.auroc_DC, 1)


def test_stratified_draws_keep_the_number_of_each_class() -> None:
    # One positive: a draw of patients may miss it, a stratified one holds it every time.
    scores_NC = np.arange(40, dtype=np.float32)[:, None]
    targets_NC, mask_NC, patient_N = (scores_NC == 20).astype(np.float32), np.ones((40, 1), bool), np.arange(40)

    def lost(resampling: Resampling) -> int:
        config = BootstrapConfig(draws=300, resampling=resampling)
        return int(np.isnan(bootstrap(scores_NC, targets_NC, mask_NC, patient_N, config).auroc_DC).sum())

    assert lost("stratified") == 0
    assert 80 < lost("patient") < 145  # 300 (1 - 1/40)^40 = 109


def test_patients_with_equal_images_give_wider_draws_than_their_images_would() -> None:
    rng = np.random.default_rng(3)
    targets_P = (rng.random(60) < 0.4).astype(np.float32)
    scores_P = rng.normal(size=60) + targets_P
    scores_NC, targets_NC = np.repeat(scores_P, 9)[:, None], np.repeat(targets_P, 9)[:, None]
    mask_NC = np.ones_like(targets_NC, bool)

    def spread(patient_N: np.ndarray) -> float:
        return float(bootstrap(scores_NC, targets_NC, mask_NC, patient_N, BootstrapConfig(draws=600)).auroc_DC.std())

    assert 2 < spread(np.repeat(np.arange(60), 9)) / spread(np.arange(540)) < 4.5  # 3: the root of 9


def test_findings_without_a_number_have_no_draw() -> None:
    scores_NC, targets_NC, mask_NC, patient_N = random_case(4, 60, 1000)
    targets_NC[:, 0], mask_NC[:, 1], scores_NC[0, 2], mask_NC[0, 2] = 0, False, np.nan, True
    assert np.isnan(bootstrap(scores_NC, targets_NC, mask_NC, patient_N, BootstrapConfig(draws=100))[:2]).all()


def test_no_draw_and_no_image_are_no_error() -> None:
    scores_NC, targets_NC, mask_NC, patient_N = random_case(5, 9, 9)
    none = bootstrap(scores_NC, targets_NC, mask_NC, patient_N, BootstrapConfig(draws=0))
    assert none.auroc_DC.shape == (0, 3)
    none_NC, nobody_N = np.zeros((0, 3)), np.zeros(0, np.int64)
    empty: Draws = bootstrap(none_NC, none_NC, none_NC.astype(bool), nobody_N, BootstrapConfig(draws=100))
    assert np.isnan(empty.auroc_DC).all()


@pytest.mark.parametrize(
    "wrong", [{"draws": -1}, {"draws": 20}, {"confidence": 95}, {"confidence": 0}, {"resampling": "images"}]
)
def test_what_cannot_be_drawn_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        BootstrapConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.soak
@pytest.mark.parametrize("resampling", ["patient", "stratified"])
def test_intervals_cover_the_truth_as_often_as_they_say(resampling: Resampling) -> None:
    # Binormal scores one standard deviation apart: the AUROC is Phi(1 / sqrt 2).
    truth, held, trials = 0.7602499389, 0, 400
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        targets_NC = (rng.random((300, 1)) < 0.3).astype(np.float32)
        scores_NC = rng.normal(size=(300, 1)) + targets_NC
        config = BootstrapConfig(draws=500, resampling=resampling, seed=seed)
        draws = bootstrap(scores_NC, targets_NC, np.ones((300, 1), bool), np.arange(300), config)
        low, high = np.quantile(draws.auroc_DC, (0.025, 0.975))
        held += low <= truth <= high
    assert 0.92 < held / trials < 0.98  # 0.95, with a standard error of 0.011
