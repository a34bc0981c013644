"""Laws of the augmentation's parameters."""

import math
from dataclasses import fields

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import ConfigError
from pipeline.augment import NUM_CROP_TRIES, AugmentConfig, AugmentParams, augment_params
from pipeline.order import uniform

Arrays = dict[str, npt.NDArray[np.float64]]


def arrays(params: AugmentParams) -> Arrays:
    return {field.name: getattr(params, field.name) for field in fields(params)}


def assert_same(one: AugmentParams, other: AugmentParams) -> None:
    for name, value in arrays(one).items():
        np.testing.assert_array_equal(value, arrays(other)[name], err_msg=name)


def index(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


@st.composite
def configs(draw: st.DrawFn) -> AugmentConfig:
    scale = sorted(draw(st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 1.0))))
    ratio = sorted(draw(st.tuples(st.floats(0.2, 5.0), st.floats(0.2, 5.0))))
    return AugmentConfig(
        crop_scale=(scale[0], scale[1]),
        crop_ratio=(ratio[0], ratio[1]),
        flip_probability=draw(st.floats(0, 1)),
        rotation_degrees=draw(st.floats(0, 180)),
        translation=draw(st.floats(0, 1)),
    )


@settings(deadline=None)
@given(configs(), st.integers(0, 2**32 - 1), st.integers(0, 1000), st.lists(st.integers(0, 10**6), min_size=1))
def test_a_sample_is_augmented_the_same_in_any_company(
    config: AugmentConfig, seed: int, epoch: int, samples: list[int]
) -> None:
    together = augment_params(seed, epoch, index(*samples), config)
    for row, sample in enumerate(samples):
        alone = augment_params(seed, epoch, index(sample), config)
        for name, value in arrays(alone).items():
            assert value[0] == arrays(together)[name][row], name


@settings(deadline=None)
@given(configs(), st.integers(0, 2**32 - 1))
def test_crops_lie_within_the_image(config: AugmentConfig, seed: int) -> None:
    params = augment_params(seed, 0, np.arange(64), config)
    for centre_B, extent_B in ((params.crop_x_B, params.crop_width_B), (params.crop_y_B, params.crop_height_B)):
        assert (extent_B > 0).all()
        assert (centre_B - extent_B / 2 >= -1e-12).all()
        assert (centre_B + extent_B / 2 <= 1 + 1e-12).all()


@settings(deadline=None)
@given(configs(), st.integers(0, 2**32 - 1), st.integers(0, 10**6))
def test_crop_equals_random_resized_crop_written_as_a_loop(config: AugmentConfig, seed: int, sample: int) -> None:
    """The oracle follows torchvision's RandomResizedCrop.get_params on a 1 x 1 image, without rounding to pixels."""

    def expected() -> tuple[float, float]:
        for number in range(NUM_CROP_TRIES):
            first, second = (float(uniform(seed, 3, index(sample), 2 * number + k)[0]) for k in (0, 1))
            area = config.crop_scale[0] + (config.crop_scale[1] - config.crop_scale[0]) * first
            log_low, log_high = math.log(config.crop_ratio[0]), math.log(config.crop_ratio[1])
            ratio = math.exp(log_low + (log_high - log_low) * second)
            width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
            if width <= 1 and height <= 1:
                return width, height
        if config.crop_ratio[0] > 1:
            return 1.0, 1 / config.crop_ratio[0]
        if config.crop_ratio[1] < 1:
            return config.crop_ratio[1], 1.0
        return 1.0, 1.0

    params = augment_params(seed, 3, index(sample), config)
    found = float(params.crop_width_B[0]), float(params.crop_height_B[0])
    if config.crop_scale == (1.0, 1.0) and config.crop_ratio == (1.0, 1.0):
        assert found == (1.0, 1.0)
    else:
        assert found == pytest.approx(expected(), abs=1e-12)


@pytest.mark.parametrize(("ratio", "size"), [((2.0, 3.0), (1.0, 0.5)), ((0.25, 0.5), (0.5, 1.0))])
def test_a_crop_that_never_fits_becomes_the_largest_centred_one(
    ratio: tuple[float, float], size: tuple[float, float]
) -> None:
    params = augment_params(0, 0, np.arange(10), AugmentConfig(crop_scale=(1.0, 1.0), crop_ratio=ratio))
    np.testing.assert_array_equal(params.crop_width_B, size[0])
    np.testing.assert_array_equal(params.crop_height_B, size[1])
    for name, extent in (("crop_x_B", size[0]), ("crop_y_B", size[1])):
        if extent == 1:
            np.testing.assert_array_equal(arrays(params)[name], 0.5)


def test_draws_follow_the_recipe() -> None:
    params = augment_params(7, 1, np.arange(20_000), AugmentConfig.chexpert())
    area_B = params.crop_width_B * params.crop_height_B
    ratio_B = params.crop_width_B / params.crop_height_B
    assert 0.2 <= area_B.min() < 0.21
    assert 0.97 < area_B.max() <= 1
    assert 0.75 <= ratio_B.min() < 0.76
    assert 1.32 < ratio_B.max() <= 4 / 3
    # Below 3/4 every crop fits, so the area is uniform there.
    inner_B = area_B[area_B < 0.7]
    assert inner_B.mean() == pytest.approx(0.45, abs=0.01)
    assert np.log(ratio_B).mean() == pytest.approx(0, abs=0.01)
    assert params.flip_B.mean() == pytest.approx(0.5, abs=0.02)
    for value_B, limit in ((params.angle_degrees_B, 10.0), (params.shift_x_B, 0.1), (params.shift_y_B, 0.1)):
        assert abs(value_B).max() <= limit
        assert value_B.mean() == pytest.approx(0, abs=0.02 * limit)
        assert value_B.std() == pytest.approx(limit / math.sqrt(3), rel=0.02)


def test_draws_are_independent_of_each_other_and_of_the_epoch() -> None:
    first = arrays(augment_params(7, 1, np.arange(20_000), AugmentConfig.chexpert()))
    again = arrays(augment_params(7, 2, np.arange(20_000), AugmentConfig.chexpert()))
    # Centre and extent of a crop belong together; all else may not know of each other.
    names = ["crop_width_B", "flip_B", "angle_degrees_B", "shift_x_B", "shift_y_B"]
    for number, name in enumerate(names):
        for other in names[number + 1 :]:
            assert abs(np.corrcoef(first[name], first[other])[0, 1]) < 0.03, (name, other)
        assert abs(np.corrcoef(first[name], again[name])[0, 1]) < 0.03, name


def test_parameters_are_frozen() -> None:
    """Checkpoints are resumed in the middle of an epoch: another draw would be another run."""
    params = augment_params(42, 3, index(0, 112_119), AugmentConfig.chexpert())
    for name, value in arrays(params).items():
        np.testing.assert_allclose(value.astype(np.float64), GOLDEN[name], rtol=0, atol=1e-12, err_msg=name)


def test_a_row_that_does_not_count_stays_as_it_is() -> None:
    params = augment_params(0, 0, index(5, -1, 6), AugmentConfig.chexpert())
    nothing = AugmentParams.identity(1)
    for name, value in arrays(params).items():
        assert value[1] == arrays(nothing)[name][0], name
    assert not params.changes_nothing


def test_no_augmentation_changes_nothing() -> None:
    params = augment_params(0, 0, np.arange(50), AugmentConfig.none())
    assert params.changes_nothing
    assert params.keeps_axes
    assert_same(params, AugmentParams.identity(50))


def test_recipes_differ_by_rotation_and_translation() -> None:
    assert AugmentConfig.nih() == AugmentConfig(
        crop_scale=(0.2, 1.0), crop_ratio=(3 / 4, 4 / 3), flip_probability=0.5, rotation_degrees=0, translation=0
    )
    assert augment_params(0, 0, np.arange(9), AugmentConfig.nih()).keeps_axes
    assert not augment_params(0, 0, np.arange(9), AugmentConfig.chexpert()).keeps_axes
    chexpert = AugmentConfig.chexpert()
    assert (chexpert.rotation_degrees, chexpert.translation) == (10, 0.1)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("crop_scale", (0.0, 1.0)),
        ("crop_scale", (0.5, 0.2)),
        ("crop_scale", (0.5, 1.5)),
        ("crop_scale", (0.5,)),
        ("crop_ratio", (-1.0, 1.0)),
        ("crop_ratio", (2.0, 1.0)),
        ("crop_ratio", (1.0, math.inf)),
        ("flip_probability", 1.5),
        ("flip_probability", math.nan),
        ("rotation_degrees", -1.0),
        ("rotation_degrees", 181.0),
        ("translation", -0.1),
        ("mixup_alpha", -0.1),
        ("cutmix_alpha", 2.5),
    ],
)
def test_impossible_values_are_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"augment: {option} = "):
        AugmentConfig(**{option: value})  # type: ignore[arg-type]


GOLDEN = {
    "crop_x_B": [0.5209709602787231, 0.5260311115599992],
    "crop_y_B": [0.6034418275652882, 0.5343840998266036],
    "crop_width_B": [0.6405514881867456, 0.876015954043624],
    "crop_height_B": [0.7207344423672731, 0.7416426990816026],
    "flip_B": [1.0, 1.0],
    "angle_degrees_B": [-3.906093462871305, 7.228052755117574],
    "shift_x_B": [0.042428156362514874, -0.03715989629322121],
    "shift_y_B": [0.006551931957583107, -0.014949317732817158],
}
