"""The noise probe draws the noise that it says, and runs."""

import pytest

from tools.noise_probe import METHODS, make_rows, run


def test_labels_have_ppv_and_sensitivity_of_a_half() -> None:
    train, _ = make_rows(seed=0, num_rows=20_000)
    true_positives = (train.clean * train.noisy).sum()
    assert float(true_positives / train.clean.sum()) == pytest.approx(0.5, abs=0.02)
    assert float(true_positives / train.noisy.sum()) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("number", [0, 3, 9])
def test_methods_learn_something_in_an_epoch(number: int) -> None:
    (auroc,) = run(METHODS[number], 0, num_epochs=1, num_rows=1000)
    assert 0.5 < auroc < 1.0
