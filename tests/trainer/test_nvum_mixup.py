"""Laws of memory mixup's draws."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.mixup import mixup_draw


@given(
    seed=st.integers(0, 2**40), epoch=st.integers(0, 1000), consumed=st.integers(0, 10**9), rank=st.integers(0, 63),
    batch_size=st.integers(1, 300),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_draw_is_a_permutation_and_keeps_most_of_the_own_memory(
    seed: int, epoch: int, consumed: int, rank: int, batch_size: int
) -> None:
    perm_B, lam = mixup_draw(seed, epoch, consumed, rank, batch_size)
    assert sorted(perm_B.tolist()) == list(range(batch_size))
    assert perm_B.dtype == np.int64
    assert 0.5 <= lam <= 1.0


def test_draw_is_a_pure_function() -> None:
    first, second = mixup_draw(3, 1, 640, 2, 64), mixup_draw(3, 1, 640, 2, 64)
    assert (first[0] == second[0]).all()
    assert first[1] == second[1]


def test_draw_is_frozen() -> None:
    """A resumed run draws what the undisturbed one would have, also after an upgrade of NumPy."""
    perm_B, lam = mixup_draw(0, 0, 0, 0, 8)
    assert perm_B.tolist() == [4, 3, 1, 2, 0, 7, 6, 5]
    assert lam == 0.5834534724472139


def test_seed_epoch_cursor_and_rank_each_change_the_draw() -> None:
    draws = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    lams = {mixup_draw(*draw, batch_size=16)[1] for draw in draws}
    assert len(lams) == len(draws)


def test_lam_is_the_larger_part_of_a_uniform_cut() -> None:
    """max(b, 1 - b) of a uniform b is uniform on [0.5, 1]: mean 0.75, and a quarter in each eighth."""
    lams = np.array([mixup_draw(0, 0, step, 0, 1)[1] for step in range(4000)])
    counts, _ = np.histogram(lams, bins=4, range=(0.5, 1.0))
    assert abs(lams.mean() - 0.75) < 0.01
    assert (abs(counts / 4000 - 0.25) < 0.03).all()


def test_every_partner_is_as_likely_as_any_other() -> None:
    partners = np.stack([mixup_draw(0, 0, step, 0, 8)[0] for step in range(4000)])
    for row in range(8):
        assert (abs(np.bincount(partners[:, row], minlength=8) / 4000 - 1 / 8) < 0.03).all()
