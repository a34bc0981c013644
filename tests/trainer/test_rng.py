"""The global generators go on from a checkpoint where they were."""

import io
import random

import numpy as np
import pytest
import torch

from trainer.rng import generator_state, restore_generators, seed_generators


def draws() -> list[float]:
    """Draws of each generator; of normals too, of which Python and numpy keep one in hand."""
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.randn()),
        float(torch.rand(())),
        float(torch.randn(())),
    ]


@pytest.mark.parametrize("num_before", [0, 1, 2])
def test_a_saved_state_gives_the_same_draws(num_before: int) -> None:
    seed_generators(7)
    for _ in range(num_before):
        draws()
    file = io.BytesIO()
    torch.save(generator_state(), file)
    expected = [draws() for _ in range(3)]
    seed_generators(8)
    file.seek(0)
    restore_generators(torch.load(file, weights_only=True))
    assert [draws() for _ in range(3)] == expected


def test_another_seed_gives_other_draws_in_each_generator() -> None:
    seed_generators(7)
    one = draws()
    seed_generators(8)
    assert all(a != b for a, b in zip(one, draws(), strict=True))
    seed_generators(7)
    assert draws() == one
