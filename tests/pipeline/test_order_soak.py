"""The order in thousands of random epochs that are left in the middle and gone on with by other ranks."""

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.order import OrderStep, epoch_order, num_steps

LARGEST = {"n": 4000, "world_size": 16, "batch_size": 256, "other_world_size": 16, "other_batch_size": 256}
EPOCH, SEED = 2, 99


@pytest.mark.parametrize("num_trials", [400, pytest.param(12_000, marks=pytest.mark.soak)])
def test_every_position_once_whatever_the_ranks_and_wherever_the_cut(num_trials: int) -> None:
    random = np.random.default_rng(num_trials)
    for trial in range(num_trials):
        # Evenly over the orders of magnitude: small numbers have the corner cases.
        shape = {name: int(np.exp(random.uniform(0, np.log(largest + 1)))) for name, largest in LARGEST.items()}
        check_epoch(random, trial, **shape)


def check_epoch(
    random: np.random.Generator,
    trial: int,
    *,
    n: int,
    world_size: int,
    batch_size: int,
    other_world_size: int,
    other_batch_size: int,
) -> None:
    """Do some steps of an epoch over n positions, go on with others; then a whole epoch by those."""
    described = f"trial {trial}: {n=} {world_size=} {batch_size=} {other_world_size=} {other_batch_size=}"
    first = global_steps(n, world_size, batch_size, start=0, epoch=EPOCH)
    num_done = int(random.integers(0, len(first) + 1))
    cursor = sum(map(len, first[:num_done]))
    rest = global_steps(n, other_world_size, other_batch_size, start=cursor, epoch=EPOCH)
    assert sum(map(len, rest)) == n - cursor, described
    seen_n = np.concatenate([*first[:num_done], *rest])
    np.testing.assert_array_equal(seen_n, np.concatenate(first), described)  # one global order, whoever cuts it
    np.testing.assert_array_equal(np.sort(seen_n), np.arange(n), described)
    following = np.concatenate(global_steps(n, other_world_size, other_batch_size, start=0, epoch=EPOCH + 1))
    np.testing.assert_array_equal(np.sort(following), np.arange(n), described)


def global_steps(n: int, world_size: int, batch_size: int, *, start: int, epoch: int) -> list[npt.NDArray[np.int64]]:
    """Return the positions of each step over all ranks, after a look at what the ranks must agree about."""
    arguments = {"epoch": epoch, "seed": SEED, "batch_size": batch_size, "world_size": world_size, "start": start}
    ranks: list[list[OrderStep]] = [list(epoch_order(n, rank=rank, **arguments)) for rank in range(world_size)]
    expected = num_steps(n, batch_size=batch_size, world_size=world_size, start=start)
    assert {len(steps) for steps in ranks} == {expected}
    cursor, steps = start, []
    for together in zip(*ranks, strict=True):
        positions = np.concatenate([step.positions_B for step in together])
        cursor += len(positions)
        assert {step[1:] for step in together} == {(cursor, len(positions))}
        assert max(len(step.positions_B) for step in together) <= max(batch_size, 2)
        steps.append(positions)
    return steps
