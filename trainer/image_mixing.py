"""MixUp and CutMix: images of a batch mixed with one another, and their labels with them.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv 1710.09412; Yun et al., "CutMix", ICCV 2019,
arXiv 1905.04899. Which images meet, and by how much, is a pure function of where the training stands.

Not the memory mixup of NVUM (`trainer.mixup`), which mixes what is remembered and never images.

Shapes: B rows of this rank's batch, C outputs, h x w the model's images.
"""

from collections.abc import Callable
from math import exp, log, log1p, sqrt
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.augment import AugmentConfig

MIXING_STREAM = 0x696D_6978
"""Keeps these draws apart from others of the same seed ("imix")."""


class Box(NamedTuple):
    """The part of the images that CutMix takes from the partner: rows top..bottom-1, columns left..right-1."""

    top: int
    bottom: int
    left: int
    right: int


class Mixing(NamedTuple):
    """How a batch is mixed."""

    perm_B: NDArray[np.int64]
    """The partner of each row, in the same batch."""

    lam: float
    """Share of the row's own image and labels."""

    box: Box | None
    """CutMix: what comes from the partner; None: MixUp, a weighted mean of both."""


def mixing_draw(
    config: AugmentConfig, seed: int, epoch: int, consumed: int, rank: int, batch_size: int, *, size_px: int
) -> Mixing:
    """Return how a step's batch is mixed; with both kinds configured, each step takes one or the other at even odds.

    Drawn from the raw bits of a counter-based generator, whose streams NumPy keeps fixed between versions.

    Args:
        config: with `mixup_alpha` or `cutmix_alpha` above 0.
        seed: the run's seed, 0 or more.
        epoch: counts from 0.
        consumed: the cursor of the step: samples of this epoch consumed over all ranks.
        rank: this process.
        batch_size: rows of this rank's batch.
        size_px: side of its images.
    """
    assert config.mixes_images
    generator = np.random.Philox(np.random.SeedSequence([seed, epoch, consumed, rank, MIXING_STREAM]))
    perm_B = np.argsort(generator.random_raw(batch_size), kind="stable").astype(np.int64)

    def uniform() -> float:
        """Return a number in (0, 1)."""
        return (float(generator.random_raw() >> np.uint64(11)) + 0.5) * 2.0**-53

    even, across, down = uniform(), uniform(), uniform()
    cuts = config.mixup_alpha == 0 or (config.cutmix_alpha > 0 and even < 0.5)
    if not cuts:
        return Mixing(perm_B, beta(config.mixup_alpha, uniform), None)
    half_px = sqrt(1 - beta(config.cutmix_alpha, uniform)) * size_px / 2
    (left, right), (top, bottom) = (
        (max(0, round(centre * size_px - half_px)), min(size_px, round(centre * size_px + half_px)))
        for centre in (across, down)
    )
    lam = 1 - (right - left) * (bottom - top) / size_px**2
    return Mixing(perm_B, lam, Box(top=top, bottom=bottom, left=left, right=right))


def beta(alpha: float, uniform: Callable[[], float]) -> float:
    """Return a draw of Beta(alpha, alpha) by Jöhnk's method, in logarithms: right also for an alpha next to 0."""
    while True:
        log_x, log_y = log(uniform()) / alpha, log(uniform()) / alpha
        larger, smaller = max(log_x, log_y), min(log_x, log_y)
        log_sum = larger + log1p(exp(smaller - larger))
        if log_sum <= 0:
            return exp(log_x - log_sum)


def mixed(
    images_B1hw: torch.Tensor,
    targets_BC: torch.Tensor,
    mask_BC: torch.Tensor,
    index_B: torch.Tensor,
    mixing: Mixing,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return images, targets and mask after mixing; nothing waits for a GPU.

    An entry counts where both partners are labelled. A row whose partner does not count keeps its image and labels.

    Args:
        images_B1hw: prepared images, any floating type.
        targets_BC: labels in [0, 1].
        mask_BC: bool: labelled entries.
        index_B: int64 `sample_index`; -1 marks a row that does not count.
        mixing: from `mixing_draw`.
    """
    perm_B = torch.from_numpy(mixing.perm_B).to(images_B1hw.device, non_blocking=True)
    meets_B = index_B[perm_B] >= 0
    partners_B1hw = images_B1hw[perm_B]
    if mixing.box is None:
        changed_B1hw = partners_B1hw.mul_(1 - mixing.lam).add_(images_B1hw, alpha=mixing.lam)
    else:
        top, bottom, left, right = mixing.box
        changed_B1hw = images_B1hw.clone()
        changed_B1hw[:, :, top:bottom, left:right] = partners_B1hw[:, :, top:bottom, left:right]
    changed_BC = mixing.lam * targets_BC + (1 - mixing.lam) * targets_BC[perm_B]
    return (
        torch.where(meets_B[:, None, None, None], changed_B1hw, images_B1hw),
        torch.where(meets_B[:, None], changed_BC, targets_BC),
        torch.where(meets_B[:, None], mask_BC & mask_BC[perm_B], mask_BC),
    )
