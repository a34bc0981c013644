"""Which memory rows mix, and by how much: a pure function of where the training stands."""

import numpy as np
from numpy.typing import NDArray

MIXUP_STREAM = 0x6D69_7875
"""Keeps these draws apart from others of the same seed ("mixu")."""


def mixup_draw(
    seed: int, epoch: int, consumed: int, rank: int, batch_size: int, *, part: int = 0
) -> tuple[NDArray[np.int64], float]:
    """Return the permutation [B] of this rank's batch and lam = max(b, 1 - b), b uniform on [0, 1) = Beta(1, 1).

    Drawn from the raw bits of a counter-based generator, whose streams NumPy keeps fixed between versions (those of its
    distributions it does not), so that a resumed run draws what the undisturbed one would have.

    Args:
        seed: the run's seed, 0 or more.
        epoch: counts from 0.
        consumed: the cursor of the step: samples of this epoch consumed over all ranks.
        rank: this process.
        batch_size: rows of this rank's batch, or of the part of it.
        part: which part of the batch, where it is computed in several (`step.accumulate`).
    """
    key = [seed, epoch, consumed, rank, MIXUP_STREAM, *([part] if part else [])]
    bits = np.random.Philox(np.random.SeedSequence(key)).random_raw(batch_size + 1)
    perm_B = np.argsort(bits[:-1], kind="stable").astype(np.int64)
    b = float(bits[-1] >> np.uint64(11)) * 2.0**-53
    return perm_B, max(b, 1.0 - b)
