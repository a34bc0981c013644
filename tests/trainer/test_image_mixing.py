"""Laws of MixUp and CutMix on images: what is drawn, what is mixed, what counts, what is refused."""

from collections import Counter
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from manifests.errors import ConfigError
from pipeline.augment import AugmentConfig
from tests.trainer.tiny_runs import BCE, assert_same_run, settings
from trainer.config import TrainConfig
from trainer.image_mixing import Box, Mixing, mixed, mixing_draw
from trainer.launch import train
from trainer.sections import build

MIXUP, CUTMIX = AugmentConfig(mixup_alpha=0.4), AugmentConfig(cutmix_alpha=1.0)
BOTH = AugmentConfig(mixup_alpha=0.4, cutmix_alpha=1.0)


def batch(num_rows: int = 4, size_px: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(num_rows)
    images_B1hw = torch.randn(num_rows, 1, size_px, size_px, generator=generator)
    targets_BC = torch.randint(0, 2, (num_rows, 3), generator=generator).float()
    mask_BC = torch.rand(num_rows, 3, generator=generator) < 0.7
    return images_B1hw, targets_BC, mask_BC, torch.arange(num_rows)


def draw(config: AugmentConfig, consumed: int = 8, **changes: int) -> Mixing:
    place = {"seed": 1, "epoch": 2, "consumed": consumed, "rank": 0, "batch_size": 8} | changes
    return mixing_draw(config, *place.values(), size_px=32)


@pytest.mark.parametrize("config", [MIXUP, CUTMIX, BOTH])
def test_a_draw_is_a_pure_function_of_its_place(config: AugmentConfig) -> None:
    first, again = draw(config), draw(config)
    assert np.array_equal(first.perm_B, again.perm_B)
    assert first[1:] == again[1:]
    for change in ({"seed": 2}, {"epoch": 3}, {"consumed": 16}, {"rank": 1}):
        assert draw(config, **change).lam != first.lam, change


def test_draws_are_frozen() -> None:
    """Checkpoints are resumed in the middle of an epoch: another draw would be another run."""
    drawn = draw(MIXUP)
    assert drawn.perm_B.tolist() == GOLDEN_PERM
    assert drawn.lam == pytest.approx(GOLDEN_LAM, abs=1e-12)
    assert draw(CUTMIX).box == GOLDEN_BOX


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 2.0])
def test_shares_have_the_moments_of_their_beta_distribution(alpha: float) -> None:
    config = AugmentConfig(mixup_alpha=alpha)
    shares = np.array([draw(config, consumed=number).lam for number in range(2000)])
    assert shares.min() >= 0
    assert shares.max() <= 1
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(shares.mean() - 0.5) < 5 * sqrt(variance / len(shares))
    assert shares.var() == pytest.approx(variance, rel=0.1)


def test_with_both_kinds_steps_take_turns_at_even_odds() -> None:
    kinds = Counter(draw(BOTH, consumed=number).box is None for number in range(500))
    assert min(kinds.values()) > 200


@given(st.integers(1, 40), st.integers(0, 10_000))
@examples(max_examples=60)
def test_a_box_lies_in_the_image_and_its_area_is_the_partners_share(size_px: int, consumed: int) -> None:
    drawn = mixing_draw(CUTMIX, 0, 0, consumed, 0, 2, size_px=size_px)
    assert drawn.box is not None
    top, bottom, left, right = drawn.box
    assert 0 <= top <= bottom <= size_px
    assert 0 <= left <= right <= size_px
    assert 1 - drawn.lam == pytest.approx((bottom - top) * (right - left) / size_px**2)


def test_mixup_averages_images_and_labels_with_the_same_share() -> None:
    images_B1hw, targets_BC, mask_BC, index_B = batch()
    perm_B = np.array([1, 0, 3, 2])
    found = mixed(images_B1hw, targets_BC, mask_BC, index_B, Mixing(perm_B, 0.7, None))
    torch.testing.assert_close(found[0], 0.7 * images_B1hw + 0.3 * images_B1hw[perm_B])
    torch.testing.assert_close(found[1], 0.7 * targets_BC + 0.3 * targets_BC[perm_B])


def test_cutmix_takes_the_box_from_the_partner_and_nothing_else() -> None:
    images_B1hw, targets_BC, mask_BC, index_B = batch()
    perm_B, box = np.array([1, 2, 3, 0]), Box(top=1, bottom=3, left=2, right=6)
    images, targets, _ = mixed(images_B1hw, targets_BC, mask_BC, index_B, Mixing(perm_B, 1 - 8 / 36, box))
    inside = torch.zeros(6, 6, dtype=torch.bool)
    inside[1:3, 2:6] = True
    assert torch.equal(images, torch.where(inside, images_B1hw[perm_B], images_B1hw))
    torch.testing.assert_close(targets, 28 / 36 * targets_BC + 8 / 36 * targets_BC[perm_B])


@pytest.mark.parametrize("box", [None, Box(top=0, bottom=3, left=0, right=3)])
def test_an_entry_counts_where_both_partners_are_labelled(box: Box | None) -> None:
    images_B1hw, targets_BC, _, index_B = batch(2)
    mask_BC = torch.tensor([[True, True, False], [True, False, False]])
    _, _, mask = mixed(images_B1hw, targets_BC, mask_BC, index_B, Mixing(np.array([1, 0]), 0.5, box))
    assert mask.tolist() == [[True, False, False]] * 2


@pytest.mark.parametrize("box", [None, Box(top=0, bottom=3, left=0, right=3)])
def test_a_row_whose_partner_does_not_count_stays_as_it_is(box: Box | None) -> None:
    images_B1hw, targets_BC, mask_BC, index_B = batch(3)
    index_B[1] = -1
    images_B1hw[1] = float("nan")
    before = [tensor.clone() for tensor in (images_B1hw, targets_BC, mask_BC)]
    found = mixed(images_B1hw, targets_BC, mask_BC, index_B, Mixing(np.array([1, 2, 0]), 0.5, box))
    for new, old in zip(found, before, strict=True):
        assert torch.equal(new[0], old[0])
    assert found[0][2].isfinite().all()
    for tensor, old in zip((images_B1hw, targets_BC, mask_BC), before, strict=True):
        assert torch.equal(tensor.nan_to_num(), old.nan_to_num())  # what was given is not written to


@pytest.mark.parametrize("loss", ["nvum", "elr"])
@pytest.mark.parametrize("option", ["mixup_alpha", "cutmix_alpha"])
def test_a_memory_of_single_images_refuses_mixtures(loss: str, option: str) -> None:
    values = {"loss": {"name": loss}, "augment": {option: 0.5}}
    with pytest.raises(ConfigError, match=rf"augment\.{option}=0\.5 with loss\.name={loss}.*set augment\.{option}=0"):
        build(TrainConfig, values, source="test")


def test_a_run_that_mixes_images_differs_and_is_the_same_again(tiny_pack: Path, tmp_path: Path) -> None:
    mixes = {"augment": {"mixup_alpha": 0.4, "cutmix_alpha": 1.0}}
    for name, sections in (("plain", {}), ("one", mixes), ("other", mixes)):
        train(settings(tiny_pack, BCE, **sections), out=tmp_path / name)
    assert_same_run(tmp_path / "one", tmp_path / "other")
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "one", tmp_path / "plain")


GOLDEN_PERM = [4, 6, 5, 3, 1, 7, 0, 2]
GOLDEN_LAM = 0.3734424688851701
GOLDEN_BOX = Box(top=14, bottom=29, left=16, right=30)
