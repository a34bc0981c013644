"""Metrics agree with scikit-learn to 1e-9, whatever the ties and masks, and say nothing where nothing can be said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from manifests.findings import NO_FINDING
from trainer.evaluation.metrics import measure

FINDINGS = ("Effusion", "Nodule", NO_FINDING)


def random_case(seed: int, num_images: int, num_levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores on a few levels (so that there are ties), targets and a mask, all [N, 3]."""
    rng = np.random.default_rng(seed)
    shape = (num_images, len(FINDINGS))
    scores_NC = rng.integers(0, num_levels, shape) / num_levels
    return scores_NC.astype(np.float32), (rng.random(shape) < 0.3).astype(np.float32), rng.random(shape) < 0.8


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), num_images=st.integers(1, 60), num_levels=st.sampled_from([1, 2, 5, 1000]))
def test_equals_scikit_learn_with_ties_and_masks(seed: int, num_images: int, num_levels: int) -> None:
    scores_NC, targets_NC, mask_NC = random_case(seed, num_images, num_levels)
    measured = measure(scores_NC, targets_NC, mask_NC, FINDINGS)
    for column, entry in enumerate(measured.findings):
        kept = mask_NC[:, column]
        targets, scores = targets_NC[kept, column], scores_NC[kept, column]
        assert (entry.positives, entry.negatives) == (targets.sum(), (1 - targets).sum())
        if 0 < entry.positives < len(targets):
            assert entry.auroc == pytest.approx(roc_auc_score(targets, scores), abs=1e-9)
            assert entry.average_precision == pytest.approx(average_precision_score(targets, scores), abs=1e-9)
        else:
            assert entry.auroc is None
            assert entry.average_precision is None


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_order_of_the_rows_does_not_matter(seed: int) -> None:
    scores_NC, targets_NC, mask_NC = random_case(seed, 40, 5)
    order = np.random.default_rng(seed + 1).permutation(40)
    shuffled = measure(scores_NC[order], targets_NC[order], mask_NC[order], FINDINGS)
    assert shuffled == measure(scores_NC, targets_NC, mask_NC, FINDINGS)


def test_masked_labels_cannot_change_a_number() -> None:
    scores_NC, targets_NC, mask_NC = random_case(3, 50, 1000)
    spoiled_NC = np.where(mask_NC, targets_NC, 1 - targets_NC)
    assert measure(scores_NC, targets_NC, mask_NC, FINDINGS) == measure(scores_NC, spoiled_NC, mask_NC, FINDINGS)


def test_means_leave_no_finding_and_missing_classes_out() -> None:
    scores_NC = np.array([[0.9, 0.1, 0.9], [0.1, 0.2, 0.1]])
    targets_NC = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    measured = measure(scores_NC, targets_NC, np.ones((2, 3), dtype=bool), FINDINGS)
    assert [entry.auroc for entry in measured.findings] == [1.0, None, 0.0]
    assert (measured.mean_auroc, measured.mean_average_precision, measured.num_findings_in_mean) == (1.0, 1.0, 1)


def test_a_score_that_is_not_finite_gives_no_number_for_its_finding_alone() -> None:
    scores_NC, targets_NC, mask_NC = random_case(5, 50, 1000)
    mask_NC[7] = True
    scores_NC[7, 1] = np.nan
    measured = measure(scores_NC, targets_NC, mask_NC, FINDINGS)
    assert measured.findings[1].auroc is None
    assert measured.findings[0].auroc is not None
    assert measured.num_findings_in_mean == 1


def test_no_image_gives_no_number() -> None:
    empty_NC = np.zeros((0, 3))
    measured = measure(empty_NC, empty_NC, empty_NC.astype(bool), FINDINGS)
    assert measured.mean_auroc is None
    assert measured.num_findings_in_mean == 0


def test_arrays_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected three"):
        measure(np.zeros((3, 2)), np.zeros((3, 3)), np.zeros((3, 2), dtype=bool), FINDINGS[:2])
