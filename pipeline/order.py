"""Who gets which sample, and when: the order of an epoch as a pure function.

A *position* is a place in the selection, 0..n-1. An epoch is one pseudo-random permutation of the positions, the same
for every world size; its steps cut that stream into pieces and each piece is split over the ranks::

    stream      p0 p1 p2 p3 p4 p5 p6 p7 | p8 p9 ...                permutation of 0..n-1, from (seed, epoch, n)
    step 0      [--------- 8 ---------]                            world_size 2 x batch_size 4
    rank 0       p0 p1 p2 p3
    rank 1                   p4 p5 p6 p7

The cursor of an epoch is the number of samples that all ranks together have consumed, so resuming is arithmetic, with
the same world size or another one. What holds (and is tested): every position exactly once an epoch, the same number of
steps on every rank, nothing padded, nothing dropped.

The permutation is a Feistel network over the smallest power of two that holds n, with cycle-walking: any part of it can
be computed without the rest, in memory of O(batch + sqrt(n)).
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from manifests.errors import ConfigError

ORDER_VERSION = 1
"""Number of the permutation and of the tail rule; written into checkpoints, since another order is another run."""

Positions = npt.NDArray[np.int64]

_ROUNDS = 12
_CHUNK = 16_384  # positions permuted together: large enough to hide numpy's overhead, 128 KiB of memory


class OrderStep(NamedTuple):
    """One step of one rank."""

    positions_B: Positions
    """int64 [B], this rank's positions; B <= batch_size (2 for a batch_size of 1), 0 only where fewer positions than
    ranks remained in the epoch."""

    consumed: int
    """Samples consumed over all ranks when this step is done: the cursor to resume from."""

    num_global: int
    """Samples of this step over all ranks."""


def epoch_order(
    n: int, *, epoch: int, seed: int, batch_size: int, rank: int = 0, world_size: int = 1, start: int = 0
) -> Iterator[OrderStep]:
    """Yield this rank's steps of a shuffled epoch over n positions, beginning at the cursor `start`.

    The last step may be smaller. A tail of fewer than two samples a rank would starve batch statistics and ranks: it is
    shared evenly with the step before (with a batch_size of 1 it joins that step). The yielded steps depend on `start`
    only through what remains, so a resumed epoch goes on exactly as it would have.

    Raises:
        ConfigError: n, start, batch_size, rank or world_size is impossible.
    """
    permutation = Permutation(n, seed=seed, epoch=epoch)
    return _cut(n, batch_size, rank, world_size, start, permutation)


def evaluation_order(n: int, *, batch_size: int, rank: int = 0, world_size: int = 1) -> Iterator[OrderStep]:
    """Yield this rank's steps of one pass over 0..n-1 in order: each position once, the same number of steps a rank."""
    return _cut(n, batch_size, rank, world_size, 0, None)


def num_steps(n: int, *, batch_size: int, world_size: int = 1, start: int = 0) -> int:
    """Return how many steps remain in an epoch of n positions at the cursor `start`; the same for every rank."""
    _check(n, batch_size, 0, world_size, start)
    whole, remaining = batch_size * world_size, n - start
    shortest_tail = min(2 * world_size, whole)
    full = max(0, (remaining - shortest_tail) // whole)
    remaining -= full * whole
    if remaining <= 0:
        return full
    return full + (1 if remaining <= whole or batch_size == 1 else 2)


def step_size(remaining: int, *, batch_size: int, world_size: int = 1) -> int:
    """Return how many of the `remaining` samples the next step takes over all ranks: the tail rule."""
    whole = batch_size * world_size
    tail = remaining - whole
    if tail <= 0:
        return remaining
    if tail >= min(2 * world_size, whole):
        return whole
    return remaining if batch_size == 1 else (remaining + 1) // 2


def step_sizes(n: int, *, batch_size: int, world_size: int = 1) -> Iterator[int]:
    """Yield how many of n samples each step of an epoch takes over all ranks."""
    _check(n, batch_size, 0, world_size, 0)
    while n:
        size = step_size(n, batch_size=batch_size, world_size=world_size)
        yield size
        n -= size


class Permutation:
    """Pseudo-random permutation of 0..n-1 that is computed where it is asked for.

    Every round of the Feistel network is a table of random values, so a position costs 12 look-ups; numbers of the
    domain outside 0..n-1 are sent through again (cycle-walking), fewer than two passes on average.
    """

    def __init__(self, n: int, *, seed: int, epoch: int) -> None:
        self.n = n
        bits = max(2, (n - 1).bit_length())
        self._left_bits, self._right_bits = bits // 2, bits - bits // 2
        self._tables = []
        for round_number in range(_ROUNDS):
            key = _key("permutation", ORDER_VERSION, n, seed, epoch, round_number)
            source, target = self._left_bits, self._right_bits
            if round_number % 2 == 0:
                source, target = target, source
            values = _mix(np.arange(1 << source, dtype=np.uint64) + key)
            self._tables.append((values & np.uint64((1 << target) - 1)).astype(np.int64))

    def __call__(self, positions_B: Positions) -> Positions:
        """Return the images of `positions_B` (int64 [B], each in 0..n-1)."""
        if self.n == 1:
            return np.zeros_like(positions_B)
        images_B = self._feistel(positions_B)
        outside = np.flatnonzero(images_B >= self.n)
        while outside.size:
            images_B[outside] = self._feistel(images_B[outside])
            outside = outside[images_B[outside] >= self.n]
        return images_B

    def _feistel(self, numbers_B: Positions) -> Positions:
        left_B = numbers_B >> self._right_bits
        right_B = numbers_B & ((1 << self._right_bits) - 1)
        for round_number, table in enumerate(self._tables):
            if round_number % 2 == 0:
                left_B = left_B ^ table[right_B]
            else:
                right_B = right_B ^ table[left_B]
        return (left_B << self._right_bits) | right_B


def uniform(seed: int, epoch: int, sample_index_B: Positions, stream: int) -> npt.NDArray[np.float64]:
    """Return one number of [0, 1) for each sample: float64 [B], a pure function of its arguments.

    It does not depend on which other samples are asked for, nor on any state; different streams are independent draws
    for the same sample and epoch.
    """
    key = _key("uniform", ORDER_VERSION, seed, epoch, stream)
    mixed = _mix(_mix(sample_index_B.astype(np.uint64) ^ key) + key)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _cut(
    n: int, batch_size: int, rank: int, world_size: int, start: int, permutation: Permutation | None
) -> Iterator[OrderStep]:
    _check(n, batch_size, rank, world_size, start)
    return _steps(n, batch_size, rank, world_size, start, permutation)


def _steps(
    n: int, batch_size: int, rank: int, world_size: int, start: int, permutation: Permutation | None
) -> Iterator[OrderStep]:
    pending: list[tuple[int, int, int, int]] = []  # (first position, own samples, cursor after, global samples)
    num_pending, cursor = 0, start
    while cursor < n or pending:
        if cursor < n and num_pending < _CHUNK:
            size = step_size(n - cursor, batch_size=batch_size, world_size=world_size)
            share, extra = divmod(size, world_size)
            first = cursor + rank * share + min(rank, extra)
            own = share + (rank < extra)
            cursor += size
            num_pending += own
            pending.append((first, own, cursor, size))
            continue
        parts = [np.arange(first, first + own, dtype=np.int64) for first, own, _, _ in pending]
        positions = np.concatenate(parts) if permutation is None else permutation(np.concatenate(parts))
        offset = 0
        for _, own, consumed, num_global in pending:
            yield OrderStep(positions[offset : offset + own], consumed, num_global)
            offset += own
        pending, num_pending = [], 0


def _check(n: int, batch_size: int, rank: int, world_size: int, start: int) -> None:
    if n < 1:
        raise ConfigError(f"order: no samples to put in order (n = {n})")
    if batch_size < 1:
        raise ConfigError(f"order: batch_size = {batch_size}, expected at least 1")
    if world_size < 1 or not 0 <= rank < world_size:
        raise ConfigError(f"order: rank {rank} of world_size {world_size}, expected 0 <= rank < world_size")
    if not 0 <= start <= n:
        raise ConfigError(f"order: start = {start}, expected 0..{n}")


def _key(*parts: object) -> np.uint64:
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def _mix(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return a bijective mix of 64-bit numbers (the finaliser of SplitMix64; Steele et al., OOPSLA 2014)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
