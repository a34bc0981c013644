"""Laws of the learning rate."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import ConfigError
from trainer.schedule import ScheduleConfig, ScheduleName, learning_rate


def rates(config: ScheduleConfig, *, epochs: int, steps_per_epoch: int, base_lr: float = 1.0) -> list[float]:
    total = epochs * steps_per_epoch
    return [learning_rate(step, total, steps_per_epoch, config, base_lr) for step in range(total)]


@pytest.mark.parametrize(("epochs", "drops"), [(30, (21, 27)), (40, (28, 36)), (10, (7, 9))])
def test_step_drops_at_the_start_of_the_authors_epochs(epochs: int, drops: tuple[int, int]) -> None:
    config = ScheduleConfig(name="step")
    by_epoch = rates(config, epochs=epochs, steps_per_epoch=7, base_lr=0.05)
    for step, rate in enumerate(by_epoch):
        num_drops = sum(step >= 7 * epoch for epoch in drops)
        assert rate == pytest.approx(0.05 * 0.1**num_drops)


def test_step_starts_at_the_base_rate_however_short_the_run() -> None:
    assert rates(ScheduleConfig(name="step"), epochs=1, steps_per_epoch=10)[0] == 1.0


def test_cosine_goes_from_the_base_rate_to_the_final_fraction() -> None:
    config = ScheduleConfig(name="cosine", final_lr_fraction=0.1)
    lrs = rates(config, epochs=4, steps_per_epoch=25)
    assert lrs[0] == 1.0
    assert lrs[50] == pytest.approx(0.55)
    assert all(a > b for a, b in pairwise(lrs))
    assert learning_rate(100, 100, 25, config, 1.0) == pytest.approx(0.1)
    assert learning_rate(1000, 100, 25, config, 1.0) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["cosine", "step", "constant"])
def test_warmup_rises_linearly_to_the_base_rate(name: ScheduleName) -> None:
    config = ScheduleConfig(name=name, warmup_epochs=1.5)
    lrs = rates(config, epochs=10, steps_per_epoch=10, base_lr=2.0)
    assert lrs[:15] == pytest.approx([2.0 * (step + 1) / 15 for step in range(15)])
    assert lrs[15] == pytest.approx(2.0)


def test_constant_stays() -> None:
    assert set(rates(ScheduleConfig(name="constant"), epochs=3, steps_per_epoch=5)) == {1.0}


@given(
    name=st.sampled_from(["cosine", "step", "constant"]), epochs=st.integers(1, 50),
    steps_per_epoch=st.integers(1, 200), warmup=st.floats(0, 0.9), step=st.integers(0, 20_000),
    base_lr=st.floats(1e-6, 10),
)  # fmt: skip
def test_rate_is_positive_finite_and_never_above_the_base(
    name: ScheduleName, epochs: int, steps_per_epoch: int, warmup: float, step: int, base_lr: float
) -> None:
    config = ScheduleConfig(name=name, warmup_epochs=warmup, final_lr_fraction=0.01)
    total = epochs * steps_per_epoch
    if round(warmup * steps_per_epoch) < total:
        rate = learning_rate(step % total, total, steps_per_epoch, config, base_lr)
        assert 0 < rate <= base_lr * (1 + 1e-9)


def test_warmup_that_outlasts_the_run_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"schedule\.warmup_epochs=2: 20 steps of warm-up, but the run has 20"):
        learning_rate(0, 20, 10, ScheduleConfig(warmup_epochs=2), 1.0)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("name", "linear"), ("warmup_epochs", -1.0), ("warmup_epochs", float("inf")), ("milestones", (0.9, 0.7)),
        ("milestones", (0.7, 0.7)), ("milestones", (0.0, 0.5)), ("milestones", (21, 27)), ("gamma", 0.0),
        ("gamma", 1.5), ("final_lr_fraction", -0.1), ("final_lr_fraction", 1.1),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"schedule\.{option}="):
        ScheduleConfig(**{option: value})
