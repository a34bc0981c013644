"""The order's laws: each position once, equal steps, one global order, resume anywhere, uniform."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import ConfigError
from pipeline.order import (
    OrderStep,
    Permutation,
    epoch_order,
    evaluation_order,
    num_steps,
    step_size,
    step_sizes,
    uniform,
)

SIZES = st.integers(1, 3000)
WORLDS = st.integers(1, 9)
BATCHES = st.integers(1, 70)
FROZEN_ORDER = [[0, 6, 3, 4], [8, 1, 7, 9], [2, 5]]
FROZEN_UNIFORM = [0.5263617222404985, 0.4360569636949353]


def ranks(n: int, world_size: int, batch_size: int, start: int = 0, epoch: int = 3) -> list[list[OrderStep]]:
    """Return the steps of every rank."""
    return [
        list(epoch_order(n, epoch=epoch, seed=7, batch_size=batch_size, rank=r, world_size=world_size, start=start))
        for r in range(world_size)
    ]


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(abs(np.corrcoef(a, b)[0, 1]))


def stream(steps_of_ranks: list[list[OrderStep]]) -> np.ndarray:
    """Put the ranks' steps back together in the global order."""
    parts = [step.positions_B for together in zip(*steps_of_ranks, strict=True) for step in together]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


@given(n=SIZES, world_size=WORLDS, batch_size=BATCHES)
def test_every_position_once_per_epoch_over_all_ranks(n: int, world_size: int, batch_size: int) -> None:
    order = stream(ranks(n, world_size, batch_size))
    assert np.array_equal(np.sort(order), np.arange(n))


@given(n=SIZES, world_size=WORLDS, batch_size=BATCHES, data=st.data())
def test_equal_steps_on_every_rank_and_counted_in_advance(
    n: int, world_size: int, batch_size: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, n))
    steps = ranks(n, world_size, batch_size, start)
    expected = num_steps(n, batch_size=batch_size, world_size=world_size, start=start)
    assert {len(of_rank) for of_rank in steps} == {expected}
    for together in zip(*steps, strict=True):
        assert len({(step.consumed, step.num_global) for step in together}) == 1
        assert sum(step.positions_B.size for step in together) == together[0].num_global


@given(n=SIZES, world_size=WORLDS, batch_size=BATCHES)
def test_sizes_of_steps_are_known_without_the_order(n: int, world_size: int, batch_size: int) -> None:
    sizes = list(step_sizes(n, batch_size=batch_size, world_size=world_size))
    assert sizes == [step.num_global for step in ranks(n, world_size, batch_size)[0]]


@given(n=SIZES, world_size=WORLDS, batch_size=BATCHES, other_batch=BATCHES)
def test_same_global_order_for_every_world_size(n: int, world_size: int, batch_size: int, other_batch: int) -> None:
    assert np.array_equal(stream(ranks(n, world_size, batch_size)), stream(ranks(n, 1, other_batch)))


@given(n=SIZES, world_size=WORLDS, batch_size=BATCHES, data=st.data())
def test_resume_continues_as_if_nothing_had_happened(
    n: int, world_size: int, batch_size: int, data: st.DataObject
) -> None:
    for of_rank in range(world_size):
        arguments = {"epoch": 1, "seed": 5, "batch_size": batch_size, "rank": of_rank, "world_size": world_size}
        whole = list(epoch_order(n, **arguments))
        cut = data.draw(st.integers(0, len(whole)))
        start = whole[cut - 1].consumed if cut else 0
        again = list(epoch_order(n, start=start, **arguments))
        assert [s[1:] for s in again] == [s[1:] for s in whole[cut:]]
        assert all(np.array_equal(a.positions_B, b.positions_B) for a, b in zip(again, whole[cut:], strict=True))


@settings(max_examples=300)
@given(n=SIZES, first=st.tuples(WORLDS, BATCHES), second=st.tuples(WORLDS, BATCHES), data=st.data())
def test_resume_with_another_world_size_keeps_the_stream(
    n: int, first: tuple[int, int], second: tuple[int, int], data: st.DataObject
) -> None:
    before = ranks(n, *first)
    cut = data.draw(st.integers(0, len(before[0])))
    start = before[0][cut - 1].consumed if cut else 0
    both = np.concatenate([stream([s[:cut] for s in before]), stream(ranks(n, *second, start=start))])
    assert np.array_equal(both, stream(before))


@given(n=SIZES, world_size=WORLDS, batch_size=BATCHES)
def test_no_rank_starves_and_no_batch_is_too_large(n: int, world_size: int, batch_size: int) -> None:
    sizes = [[step.positions_B.size for step in of_rank] for of_rank in ranks(n, world_size, batch_size)]
    assert max(map(max, sizes)) <= max(batch_size, 2)
    if n >= world_size:
        assert min(map(min, sizes)) >= 1
    if n >= 2 * world_size and batch_size >= 4:
        assert min(map(min, sizes)) >= 2  # batch statistics need two
    assert all(len(set(together)) <= 2 for together in zip(*sizes, strict=True))


def test_tail_rule_by_example() -> None:
    def sizes(n: int, world_size: int, batch_size: int) -> list[int]:
        return [step.num_global for step in ranks(n, world_size, batch_size)[0]]

    assert sizes(32, 2, 8) == [16, 16]
    assert sizes(36, 2, 8) == [16, 16, 4]  # a tail of two a rank stands alone
    assert sizes(35, 2, 8) == [16, 10, 9]  # a shorter one is shared with the step before
    assert sizes(5, 4, 1) == [5]  # with one a rank, it joins that step
    assert sizes(9, 4, 1) == [4, 5]
    assert sizes(3, 4, 8) == [3]
    assert step_size(1, batch_size=8, world_size=4) == 1


@given(n=st.integers(1, 5000), seed=st.integers(0, 2**63), epoch=st.integers(0, 1000))
def test_permutation_is_a_bijection_computed_in_any_piece(n: int, seed: int, epoch: int) -> None:
    permutation = Permutation(n, seed=seed, epoch=epoch)
    whole = permutation(np.arange(n))
    assert np.array_equal(np.sort(whole), np.arange(n))
    piece = np.arange(n // 3, n // 2 + 1)[:n]
    assert np.array_equal(permutation(piece), whole[piece])


def test_permutation_of_a_hundred_million_needs_no_memory_for_it() -> None:
    n = 100_000_000
    images = Permutation(n, seed=0, epoch=0)(np.arange(n - 5000, n))
    assert images.min() >= 0
    assert images.max() < n
    assert np.unique(images).size == 5000


def test_every_permutation_of_four_is_about_equally_likely() -> None:
    counts = dict.fromkeys(permutations(range(4)), 0)
    for epoch in range(4800):
        counts[tuple(Permutation(4, seed=1, epoch=epoch)(np.arange(4)).tolist())] += 1
    seen = np.array([count for count in counts.values() if count])
    assert seen.size >= 12  # a Feistel network over 2 + 2 bits reaches all or the even ones
    chi_squared = float(((seen - 4800 / seen.size) ** 2 / (4800 / seen.size)).sum())
    assert chi_squared < 2.5 * seen.size


@pytest.mark.parametrize("n", [2, 3, 5, 7, 16, 37, 100])
def test_every_place_is_about_equally_likely(n: int) -> None:
    trials = 6000
    counts_NN = np.zeros((n, n))
    for epoch in range(trials):
        counts_NN[np.arange(n), Permutation(n, seed=2, epoch=epoch)(np.arange(n))] += 1
    expected = trials / n
    chi_squared = float(((counts_NN - expected) ** 2 / expected).sum())
    freedom = (n - 1) ** 2
    assert abs(chi_squared - freedom) < 5 * np.sqrt(2 * freedom) + 5


def test_neighbours_and_epochs_are_not_correlated() -> None:
    n = 20_011
    first, second = (Permutation(n, seed=3, epoch=epoch)(np.arange(n)) for epoch in (0, 1))
    bound = 4.5 / np.sqrt(n)
    assert correlation(first, np.arange(n)) < bound
    assert correlation(first, second) < bound
    assert correlation(first[1:], first[:-1]) < bound
    assert (first == second).sum() < 10


def test_order_is_frozen() -> None:
    """A changed permutation breaks every checkpoint: change ORDER_VERSION with it."""
    steps = list(epoch_order(10, epoch=0, seed=0, batch_size=4))
    assert [step.positions_B.tolist() for step in steps] == FROZEN_ORDER
    assert [step.consumed for step in steps] == [4, 8, 10]
    assert uniform(0, 0, np.array([0, 1]), 0).tolist() == FROZEN_UNIFORM


def test_evaluation_reads_each_once_in_order() -> None:
    for world_size in (1, 2, 3):
        steps = [list(evaluation_order(101, batch_size=7, rank=r, world_size=world_size)) for r in range(world_size)]
        assert np.array_equal(stream(steps), np.arange(101))


def test_uniform_is_pure_uniform_and_independent_between_streams() -> None:
    index = np.arange(50_000)
    draws = [uniform(1, 2, index, stream_number) for stream_number in (0, 1)]
    assert np.array_equal(draws[0][100:200], uniform(1, 2, index[100:200], 0))
    for draw in draws:
        assert draw.min() >= 0
        assert draw.max() < 1
        counts = np.histogram(draw, bins=50, range=(0, 1))[0]
        assert float(((counts - 1000) ** 2 / 1000).sum()) < 49 + 5 * np.sqrt(98)
    bound = 4.5 / np.sqrt(index.size)
    assert correlation(draws[0], draws[1]) < bound
    assert correlation(draws[0][1:], draws[0][:-1]) < bound
    assert correlation(draws[0], uniform(1, 3, index, 0)) < bound


@pytest.mark.parametrize(
    "wrong",
    [{"n": 0}, {"batch_size": 0}, {"rank": 2, "world_size": 2}, {"world_size": 0}, {"start": 11}, {"start": -1}],
)
def test_impossible_orders_are_refused_at_once(wrong: dict[str, int]) -> None:
    arguments = {"n": 10, "epoch": 0, "seed": 0, "batch_size": 4} | wrong
    with pytest.raises(ConfigError, match="order:"):
        epoch_order(arguments.pop("n"), **arguments)
