"""Intervals and means with enough positives: what has one, what has none, and that they are those of the draws."""

import numpy as np
import pytest

from manifests.findings import NO_FINDING
from trainer.evaluation.bootstrap import BootstrapConfig, bootstrap
from trainer.evaluation.intervals import with_intervals
from trainer.evaluation.metrics import SplitMetrics, measure

FINDINGS = ("Effusion", "Nodule", "Hernia", NO_FINDING)
POSITIVES = (60, 12, 4, 90)
CONFIG = BootstrapConfig(draws=400)


def case(positives: tuple[int, ...] = POSITIVES) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """300 images of 150 patients, the positives first and so two a patient."""
    rng = np.random.default_rng(0)
    targets_nC = (np.arange(300)[:, None] < np.array(positives)).astype(np.float32)
    scores_nC = rng.normal(size=targets_nC.shape) + targets_nC
    return scores_nC, targets_nC, np.ones(targets_nC.shape, bool), [f"nih:{i // 2}" for i in range(300)]


def measured(
    positives: tuple[int, ...] = POSITIVES, config: BootstrapConfig = CONFIG, min_positives: int = 10
) -> SplitMetrics:
    scores_nC, targets_nC, mask_nC, patients = case(positives)
    plain = measure(scores_nC, targets_nC, mask_nC, FINDINGS)
    return with_intervals(plain, scores_nC, targets_nC, mask_nC, patients, config, min_positives=min_positives)


def test_intervals_are_percentiles_of_the_draws_and_hold_the_number() -> None:
    scores_nC, targets_nC, mask_nC, _ = case()
    draws = bootstrap(scores_nC, targets_nC, mask_nC, np.arange(300) // 2, CONFIG)
    # Patients are numbered in the order of their names, so the draws differ, but not by much.
    effusion = measured().findings[0]
    assert effusion.auroc_interval is not None
    assert effusion.average_precision_interval is not None
    assert effusion.auroc_interval == pytest.approx(np.quantile(draws.auroc_DC[:, 0], (0.025, 0.975)), abs=0.02)
    assert effusion.auroc is not None
    assert effusion.auroc_interval[0] < effusion.auroc < effusion.auroc_interval[1]
    assert effusion.average_precision is not None
    low, high = effusion.average_precision_interval
    assert low < effusion.average_precision < high


def test_few_patients_have_a_number_and_no_interval() -> None:
    metrics = measured((60, 8, 9, 90))  # of 8 images 4 patients, of 9 images 5
    assert all(entry.auroc is not None for entry in metrics.findings)
    assert [entry.auroc_interval is not None for entry in metrics.findings] == [True, False, True, True]
    by_image = measured((60, 4, 5, 90), BootstrapConfig(draws=200, resampling="stratified"))
    assert [entry.auroc_interval is not None for entry in by_image.findings] == [True, False, True, True]


def test_few_negative_patients_have_no_interval_either() -> None:
    metrics = measured((292, 291, 60, 60))
    assert [entry.auroc_interval is not None for entry in metrics.findings] == [False, True, True, True]


def test_the_second_mean_is_over_findings_with_enough_positives() -> None:
    metrics = measured()
    assert metrics.num_findings_in_mean == 3
    assert metrics.mean_auroc_interval is None  # Hernia has none
    supported = metrics.supported
    assert supported is not None
    assert (supported.num_findings, supported.min_positives) == (2, 10)
    assert supported.mean_auroc == pytest.approx(np.mean([entry.auroc for entry in metrics.findings[:2]]))
    assert supported.mean_auroc_interval is not None
    widths = [np.diff(entry.auroc_interval or (0, 0))[0] for entry in metrics.findings[:2]]
    assert np.diff(supported.mean_auroc_interval)[0] < max(widths)


def test_the_numbers_themselves_do_not_change() -> None:
    scores_nC, targets_nC, mask_nC, _ = case()
    plain, metrics = measure(scores_nC, targets_nC, mask_nC, FINDINGS), measured()
    assert metrics.mean_auroc == plain.mean_auroc
    assert [e.auroc for e in metrics.findings] == [e.auroc for e in plain.findings]


def test_a_higher_confidence_is_a_wider_interval() -> None:
    narrow, wide = (measured(config=BootstrapConfig(draws=400, confidence=c)).findings[0] for c in (0.8, 0.99))
    assert narrow.auroc_interval is not None
    assert wide.auroc_interval is not None
    assert wide.auroc_interval[0] < narrow.auroc_interval[0] < narrow.auroc_interval[1] < wide.auroc_interval[1]


def test_stratified_draws_give_no_interval_to_a_mean() -> None:
    metrics = measured((60, 12, 30, 90), BootstrapConfig(draws=200, resampling="stratified"))
    assert metrics.mean_auroc_interval is None
    assert metrics.supported is not None
    assert metrics.supported.mean_auroc_interval is None
    assert measured((60, 12, 30, 90)).mean_auroc_interval is not None


@pytest.mark.parametrize("positives", [POSITIVES, (0, 0, 0, 0)])
def test_without_draws_there_are_means_and_no_interval(positives: tuple[int, ...]) -> None:
    metrics = measured(positives, BootstrapConfig(draws=0), min_positives=200)
    assert all(entry.auroc_interval is None for entry in metrics.findings)
    assert metrics.supported is not None
    assert (metrics.supported.num_findings, metrics.supported.mean_auroc) == (0, None)
