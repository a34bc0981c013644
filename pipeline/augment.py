"""Where each image is looked at: crop, flip, rotation and translation, drawn as pure functions of the sample.

Shapes: B images; x to the right, y downwards, both as fractions of the image's side, 0 at the left or upper edge.
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from manifests.errors import ConfigError
from pipeline.order import uniform

Floats = npt.NDArray[np.float64]

NUM_CROP_TRIES = 10
"""Draws of a crop before the centre is taken, as in torchvision's RandomResizedCrop."""

MAX_ALPHA = 2.0
"""Largest alpha of MixUp and CutMix; the papers take 0.1 to 1."""

# Streams of `pipeline.order.uniform`: every number that is drawn for a sample has its own. Crop tries use 0..19.
_STREAM_X, _STREAM_Y, _STREAM_FLIP, _STREAM_ANGLE, _STREAM_SHIFT_X, _STREAM_SHIFT_Y = range(2 * NUM_CROP_TRIES, 26)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What may happen to a training image; the defaults are the authors' recipe for NIH.

    ``recipe = "chexpert"`` in a training recipe's section `augment` stands for all values of `chexpert`; others
    beside it come on top.
    """

    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Smallest and largest area of the crop, as a fraction of the image; (1, 1) with crop_ratio (1, 1): no crop."""

    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width of the crop over its height."""

    flip_probability: float = 0.5
    """How often left and right are exchanged."""

    rotation_degrees: float = 0.0
    """Largest angle, to both sides."""

    translation: float = 0.0
    """Largest shift in x and in y, to both sides, as a fraction of what the crop shows."""

    mixup_alpha: float = 0.0
    """MixUp: images are averaged with others of the batch, the share drawn from Beta(alpha, alpha); 0: not at all."""

    cutmix_alpha: float = 0.0
    """CutMix: a part of each image comes from another one, its area drawn from Beta(alpha, alpha); 0: not at all."""

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            ConfigError: naming the option, what was found and what was expected.
        """
        low, high = _pair("crop_scale", self.crop_scale)
        if not 0 < low <= high <= 1:
            raise ConfigError(f"augment: crop_scale = [{low}, {high}], expected 0 < smallest <= largest <= 1")
        low, high = _pair("crop_ratio", self.crop_ratio)
        if not 0 < low <= high < float("inf"):
            raise ConfigError(f"augment: crop_ratio = [{low}, {high}], expected 0 < smallest <= largest")
        for name, largest in (
            ("flip_probability", 1.0),
            ("rotation_degrees", 180.0),
            ("translation", 1.0),
            ("mixup_alpha", MAX_ALPHA),
            ("cutmix_alpha", MAX_ALPHA),
        ):
            value = getattr(self, name)
            if not 0 <= value <= largest:
                raise ConfigError(f"augment: {name} = {value}, expected 0..{largest:g}")

    @property
    def mixes_images(self) -> bool:
        """Whether images of a batch are mixed with one another (`trainer.image_mixing`)."""
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0

    @classmethod
    def named(cls, name: str) -> Self:
        """Return a recipe by its name, as `augment.recipe` of a training recipe gives it.

        Raises:
            ConfigError: there is no recipe of that name.
        """
        recipes = {"none": cls.none, "nih": cls.nih, "chexpert": cls.chexpert}
        if name not in recipes:
            raise ConfigError(f"augment: recipe = {name!r}, expected one of: {', '.join(recipes)}")
        return recipes[name]()

    @classmethod
    def none(cls) -> Self:
        """Return the configuration under which every image stays as it is."""
        return cls(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip_probability=0.0)

    @classmethod
    def nih(cls) -> Self:
        """Return the authors' recipe for NIH: random resized crop of 20 to 100 % of the area, horizontal flip."""
        return cls()

    @classmethod
    def chexpert(cls) -> Self:
        """Return the authors' recipe for CheXpert: that for NIH, rotation to 10 degrees, translation to 10 %."""
        return cls(rotation_degrees=10.0, translation=0.1)


@dataclass(frozen=True, kw_only=True)
class AugmentParams:
    """What happens to each image of a batch: it is cropped, flipped, then turned and shifted on the output's canvas."""

    crop_x_B: Floats
    """float64 [B], centre of the crop."""

    crop_y_B: Floats
    """float64 [B], centre of the crop."""

    crop_width_B: Floats
    """float64 [B] in (0, 1]."""

    crop_height_B: Floats
    """float64 [B] in (0, 1]."""

    flip_B: npt.NDArray[np.bool_]
    """bool [B], left and right exchanged."""

    angle_degrees_B: Floats
    """float64 [B], counter-clockwise as one sees it, about the centre of the output."""

    shift_x_B: Floats
    """float64 [B], to the right, as a fraction of the output's side."""

    shift_y_B: Floats
    """float64 [B], downwards, as a fraction of the output's side."""

    @classmethod
    def identity(cls, num_images: int) -> Self:
        """Return the parameters that leave `num_images` images as they are."""
        zero, half, one = (np.full(num_images, value) for value in (0.0, 0.5, 1.0))
        return cls(
            crop_x_B=half,
            crop_y_B=half.copy(),
            crop_width_B=one,
            crop_height_B=one.copy(),
            flip_B=np.zeros(num_images, np.bool_),
            angle_degrees_B=zero,
            shift_x_B=zero.copy(),
            shift_y_B=zero.copy(),
        )

    def __len__(self) -> int:
        return len(self.flip_B)

    def __getitem__(self, rows: slice) -> "AugmentParams":
        """Return the parameters of some of the images."""
        return AugmentParams(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @property
    def changes_nothing(self) -> bool:
        """Whether every image stays as it is."""
        nothing = AugmentParams.identity(len(self))
        return all(np.array_equal(getattr(self, field.name), getattr(nothing, field.name)) for field in fields(self))

    @property
    def keeps_axes(self) -> bool:
        """Whether no image is turned, so that rows stay rows and columns columns."""
        return not self.angle_degrees_B.any()


def augment_params(
    seed: int, epoch: int, sample_index_B: npt.NDArray[np.int64], config: AugmentConfig
) -> AugmentParams:
    """Return what happens to each sample in an epoch: a pure function of its arguments, one sample at a time.

    The crop follows torchvision's RandomResizedCrop on a square image: area uniform, log of the ratio uniform, at most
    10 draws until the crop fits, then the largest centred one; but its edges are not rounded to whole pixels, so that
    the parameters do not depend on the size of the pack. A sample_index of -1 stays as it is.

    Args:
        seed: the run's.
        epoch: from 0.
        sample_index_B: int64 [B].
        config: what may happen.
    """
    params = AugmentParams.identity(len(sample_index_B))

    def draw(stream: int, low: float, high: float) -> Floats:
        return low + (high - low) * uniform(seed, epoch, sample_index_B, stream)

    if config.crop_scale != (1.0, 1.0) or config.crop_ratio != (1.0, 1.0):
        width_B, height_B = _crop_sizes(seed, epoch, sample_index_B, config)
        params.crop_width_B[:], params.crop_height_B[:] = width_B, height_B
        params.crop_x_B[:] = width_B / 2 + (1 - width_B) * draw(_STREAM_X, 0, 1)
        params.crop_y_B[:] = height_B / 2 + (1 - height_B) * draw(_STREAM_Y, 0, 1)
    if config.flip_probability:
        params.flip_B[:] = draw(_STREAM_FLIP, 0, 1) < config.flip_probability
    if config.rotation_degrees:
        params.angle_degrees_B[:] = draw(_STREAM_ANGLE, -config.rotation_degrees, config.rotation_degrees)
    if config.translation:
        params.shift_x_B[:] = draw(_STREAM_SHIFT_X, -config.translation, config.translation)
        params.shift_y_B[:] = draw(_STREAM_SHIFT_Y, -config.translation, config.translation)

    skipped_B = sample_index_B < 0
    if skipped_B.any():
        nothing = AugmentParams.identity(len(params))
        for field in fields(params):
            getattr(params, field.name)[skipped_B] = getattr(nothing, field.name)[skipped_B]
    return params


def _crop_sizes(
    seed: int, epoch: int, sample_index_B: npt.NDArray[np.int64], config: AugmentConfig
) -> tuple[Floats, Floats]:
    """Return width and height of each sample's crop as fractions of the image: float64 [B] each."""
    (scale_low, scale_high), (ratio_low, ratio_high) = config.crop_scale, config.crop_ratio
    log_low, log_high = np.log(ratio_low), np.log(ratio_high)
    # Where no try fits: the largest crop whose ratio is allowed (the whole image, if 1 is).
    width_B = np.full(len(sample_index_B), min(1.0, ratio_high))
    height_B = np.full(len(sample_index_B), min(1.0, 1 / ratio_low))
    open_K = np.arange(len(sample_index_B))  # the samples that have no crop yet
    for number in range(NUM_CROP_TRIES):
        if not open_K.size:
            break
        index_K = sample_index_B[open_K]
        area_K = scale_low + (scale_high - scale_low) * uniform(seed, epoch, index_K, 2 * number)
        ratio_K = np.exp(log_low + (log_high - log_low) * uniform(seed, epoch, index_K, 2 * number + 1))
        tried_width_K, tried_height_K = np.sqrt(area_K * ratio_K), np.sqrt(area_K / ratio_K)
        fits_K = (tried_width_K <= 1) & (tried_height_K <= 1)
        width_B[open_K[fits_K]], height_B[open_K[fits_K]] = tried_width_K[fits_K], tried_height_K[fits_K]
        open_K = open_K[~fits_K]
    return width_B, height_B


def _pair(name: str, value: tuple[float, float]) -> tuple[float, float]:
    if len(value) != 2:
        raise ConfigError(f"augment: {name} = {list(value)}, expected two numbers: smallest and largest")
    return value
