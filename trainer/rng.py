"""The global random generators: seeded once, carried by checkpoints.

Initial weights and dropout use them; order, augmentation and memory mixup are pure functions of the seed and do not.
"""

import random
from typing import Any

import numpy as np
import torch


def seed_generators(seed: int) -> None:
    """Seed the generators of Python, numpy and torch (every device)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def stream_seed(seed: int, *place: int) -> int:
    """Return a seed of its own for each place (a rank, a step, ...), 0 to 2^32 - 1; a pure function."""
    return int(np.random.SeedSequence([seed, *place]).generate_state(1)[0])


def generator_state() -> dict[str, Any]:
    """Return the state of every generator as tensors and plain values, which load without running pickled code."""
    name, keys, position, has_gauss, cached_gaussian = np.random.get_state()
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached_gaussian],
        "python": [version, list(internal), gauss_next],
    }


def restore_generators(state: dict[str, Any]) -> None:
    """Put every generator into a state that `generator_state` returned; those of GPUs only where as many are there."""
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, position, has_gauss, cached_gaussian = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached_gaussian))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
