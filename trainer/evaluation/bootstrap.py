"""Bootstrap draws of AUROC and average precision of many findings at once, by patient or stratified.

Letters of the shapes: N images, C findings, D draws, B draws of a chunk, G distinct scores of a finding's positives,
M units that are drawn (patients, or the images of one class), K values of an image that are added up.

A draw gives each image a weight, the times that it was drawn. Both measures change only where a positive is, so that a
finding's images are sorted once and cut into 3 G + 1 bags; for each distinct score of a positive, highest first:

    bag 3 g        negatives between this score and the one before
    bag 3 g + 1    negatives of this score
    bag 3 g + 2    positives of this score
    bag 3 G        negatives below all positives

What is left of a draw is the sums of the weights in each bag, which `embedding_bag` adds up for a chunk of draws: each
image is a row of B weights. Weights are whole numbers, and their float32 sums exact below 2^24.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import embedding_bag

from manifests.errors import ConfigError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Resampling = Literal["patient", "stratified"]

CHUNK = 512
"""Draws that are counted together: 25,000 images have a table of 51 MB."""

BLOCK = 32
"""Levels that are counted together: 128 KiB an array."""

EXACT_FLOAT32 = 2**24
"""Below it float32 holds every whole number."""


@dataclass(frozen=True, kw_only=True)
class BootstrapConfig:
    """How intervals are drawn."""

    draws: int = 2000
    """Draws; 0: no intervals."""

    resampling: Resampling = "patient"
    """`patient`: patients with all their images, the same ones for every finding; `stratified`: the positives and the
    negatives of each finding by themselves, image by image."""

    confidence: float = 0.95
    """Share of the draws within an interval."""

    seed: int = 0
    """Of the random generator."""

    def __post_init__(self) -> None:
        if self.draws < 0 or 0 < self.draws < 100:
            raise ConfigError(f"{self.draws} bootstrap draws: expected 0 (no intervals) or at least 100")
        if self.resampling not in ("patient", "stratified"):
            raise ConfigError(f"bootstrap resampling {self.resampling!r}: expected patient or stratified")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"confidence {self.confidence}: expected a share between 0 and 1, as 0.95")


class Draws(NamedTuple):
    """Both measures in every draw."""

    auroc_DC: FloatArray
    """NaN where the draw has no positive or no negative of the finding, or a score is not finite."""

    average_precision_DC: FloatArray
    """As above."""

    sums_DCK: FloatArray
    """Sums over the drawn images of the values that were given; K is 0 where none were."""


class Bags(NamedTuple):
    """A finding's images in the order of their scores, cut into bags."""

    image_n: IntArray
    """Images that are labelled, bag by bag."""

    begin_b: IntArray
    """Where each of the 3 G + 1 bags begins; the last bag ends with the images."""


def bootstrap(
    scores_NC: NDArray[np.floating],
    targets_NC: NDArray[np.floating],
    mask_NC: NDArray[np.bool_],
    patient_N: NDArray[np.int64],
    config: BootstrapConfig,
    values_NCK: NDArray[np.floating] | None = None,
) -> Draws:
    """Return AUROC and average precision of every finding in `config.draws` draws with replacement.

    Scores, targets and mask as for `trainer.evaluation.metrics.measure`. The same patients, seed and number of draws
    give the same draws, whatever the scores: two models measured on the same images are measured on the same draws.

    Args:
        scores_NC: probabilities or logits.
        targets_NC: 1 present, 0 absent; anything where the mask is False.
        mask_NC: False where an image has no label of a finding.
        patient_N: number of each image's patient, from 0; used by the resampling `patient`.
        config: how to draw.
        values_NCK: what else is added up in every draw, of images that are labelled: squared errors, counts.
    """
    num_findings = scores_NC.shape[1]
    auroc_DC, precision_DC = np.full((2, config.draws, num_findings), np.nan)
    if values_NCK is None:
        values_NCK = np.zeros((*scores_NC.shape, 0))
    sums_DCK = np.zeros((config.draws, num_findings, values_NCK.shape[2]))
    finite_C = np.isfinite(np.where(mask_NC, scores_NC, 0.0)).all(axis=0)
    positive_NC = (targets_NC > 0.5) & mask_NC
    bags = {
        column: cut(scores_NC[:, column], positive_NC[:, column], mask_NC[:, column])
        for column in np.flatnonzero(finite_C & positive_NC.any(axis=0) & (mask_NC & ~positive_NC).any(axis=0))
    }
    for weights_of, chunk in _chunks(positive_NC, mask_NC, patient_N, config):
        for column, cut_bags in bags.items():
            weights_NB = weights_of(int(column))
            auroc_DC[chunk, column], precision_DC[chunk, column] = from_bag_sums(bag_sums(cut_bags, weights_NB))
            sums_DCK[chunk, column] = weights_NB.numpy().T @ values_NCK[:, column].astype(weights_NB.numpy().dtype)
    return Draws(auroc_DC, precision_DC, sums_DCK)


def cut(score_N: NDArray[np.floating], positive_N: NDArray[np.bool_], labelled_N: NDArray[np.bool_]) -> Bags:
    """Return the bags of one finding that has a positive."""
    levels_g = np.unique(score_N[positive_N])[::-1]
    num_levels = len(levels_g)
    # The first level that is not above the score: its group; num_levels where all are.
    group_N = np.searchsorted(-levels_g, -score_N, side="left")
    equal_N = levels_g[np.minimum(group_N, num_levels - 1)] == score_N
    bag_N = 3 * group_N + equal_N + (positive_N & equal_N)
    image_n = np.flatnonzero(labelled_N)
    image_n = image_n[np.argsort(bag_N[image_n], kind="stable")]
    return Bags(image_n=image_n, begin_b=np.searchsorted(bag_N[image_n], np.arange(3 * num_levels + 1)))


def bag_sums(bags: Bags, weights_NB: torch.Tensor) -> NDArray[np.floating]:
    """Return the sum of the weights in every bag, [3 G + 1, B], in the weights' type."""
    image_n, begin_b = torch.from_numpy(bags.image_n), torch.from_numpy(bags.begin_b)
    sums_bB: NDArray[np.floating] = embedding_bag(image_n, weights_NB, begin_b, mode="sum").numpy()
    return sums_bB


def from_bag_sums(sums_bB: NDArray[np.floating]) -> tuple[FloatArray, FloatArray]:
    """Return AUROC and average precision [B] from the sums of the bags [3 G + 1, B].

    Block by block, so that what is computed for a block stays in the cache; the sums down a block are a product with a
    triangle of ones, which is several times as fast as `cumsum` down the columns of a large array.
    """
    by_level_G3B = sums_bB[:-1].reshape(-1, 3, sums_bB.shape[1])
    positives_B = by_level_G3B[:, 2].sum(axis=0, dtype=np.float64)
    negatives_B = sums_bB.sum(axis=0, dtype=np.float64) - positives_B
    true_B, false_B, wins_B, precisions_B = np.zeros((4, sums_bB.shape[1]))
    for begin in range(0, len(by_level_G3B), BLOCK):
        block_G3B = by_level_G3B[begin : begin + BLOCK].astype(np.float64)
        equal_GB, drawn_GB = block_G3B[:, 1], block_G3B[:, 2]
        ones_GG = np.tri(len(block_G3B))
        false_GB = ones_GG @ (block_G3B[:, 0] + equal_GB) + false_B
        true_GB = ones_GG @ drawn_GB + true_B
        wins_B += (drawn_GB * (negatives_B - false_GB + equal_GB / 2)).sum(axis=0)
        # A level that was drawn without a positive adds 0, also where nothing at or above it was drawn.
        precisions_B += (drawn_GB * (true_GB / np.maximum(true_GB + false_GB, 1))).sum(axis=0)
        true_B, false_B = true_GB[-1], false_GB[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        auroc_B = wins_B / (positives_B * negatives_B)
        return auroc_B, np.where(negatives_B > 0, precisions_B / positives_B, np.nan)


def _chunks(
    positive_NC: NDArray[np.bool_], mask_NC: NDArray[np.bool_], patient_N: IntArray, config: BootstrapConfig
) -> Iterator[tuple[Callable[[int], torch.Tensor], slice]]:
    """Yield, chunk by chunk, what gives the weights [N, B] of a finding, and the draws that they are of."""
    rng = np.random.default_rng(config.seed)
    num_images, num_patients = len(patient_N), int(patient_N.max(initial=-1)) + 1
    for begin in range(0, config.draws, CHUNK):
        size = min(CHUNK, config.draws - begin)
        if config.resampling == "patient":
            weights_NB = _as_weights(times_drawn(num_patients, size, rng)[patient_N])

            def of_all(_column: int, weights_NB: torch.Tensor = weights_NB) -> torch.Tensor:
                return weights_NB

            yield of_all, slice(begin, begin + size)
        else:

            def of_classes(column: int, size: int = size) -> torch.Tensor:
                weights_NB = np.zeros((num_images, size), np.int32)
                for is_class_N in (positive_NC[:, column], mask_NC[:, column] & ~positive_NC[:, column]):
                    weights_NB[is_class_N] = times_drawn(int(is_class_N.sum()), size, rng)
                return _as_weights(weights_NB)

            yield of_classes, slice(begin, begin + size)


def times_drawn(num_units: int, num_draws: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Return how often each unit is among as many drawn with replacement, int32 [M, B]."""
    unit_BM = rng.integers(0, num_units, (num_draws, num_units), dtype=np.int32)
    times_MB = np.empty((num_units, num_draws), np.int32)
    for draw, unit_M in enumerate(unit_BM):
        times_MB[:, draw] = np.bincount(unit_M, minlength=num_units)
    return times_MB


def _as_weights(times_NB: NDArray[np.int32]) -> torch.Tensor:
    """Return the weights in the smallest float type whose sums over all images are exact."""
    largest = int(times_NB.sum(axis=0, dtype=np.int64).max(initial=0))
    return torch.from_numpy(times_NB).to(torch.float32 if largest < EXACT_FLOAT32 else torch.float64)
