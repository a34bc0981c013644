"""Patients are never in two splits, and a patient's split depends on nothing but the patient and the seed."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import ConfigError, ManifestError
from manifests.splits import TEST_FRACTION, SplitConfig, patient_fraction, split_column
from tests.manifests.tiny_release import NAMES, TEST_NAMES, TRAIN_NAMES, build, built, write_lists, write_release

PATIENTS = st.lists(st.integers(1, 200).map("nih:{}".format), min_size=1, max_size=60)
CONFIGS = st.builds(SplitConfig, seed=st.integers(-5, 5), valid_fraction=st.floats(0, 0.5))


def split(patients: list[str], config: SplitConfig, official: list[str | None] | None = None) -> list[str | None]:
    """Split by patient, or by `official`, one value a row."""
    return split_column(
        pl.Series(patients, dtype=pl.String),
        None if official is None else pl.Series(official, dtype=pl.String),
        config,
    ).to_list()


@given(PATIENTS, CONFIGS)
def test_no_patient_is_in_two_splits(patients: list[str], config: SplitConfig) -> None:
    pairs = set(zip(patients, split(patients, config), strict=True))
    assert len(pairs) == len(set(patients))


@given(PATIENTS, CONFIGS, st.data())
def test_a_patients_split_is_the_same_whoever_else_is_there(
    patients: list[str], config: SplitConfig, data: st.DataObject
) -> None:
    whole = dict(zip(patients, split(patients, config), strict=True))
    fewer = data.draw(st.lists(st.sampled_from(patients), min_size=1))
    assert split(fewer, config) == [whole[patient] for patient in fewer]


@given(PATIENTS, CONFIGS, st.data())
def test_validation_is_carved_out_of_official_training_only(
    patients: list[str], config: SplitConfig, data: st.DataObject
) -> None:
    tested = data.draw(st.sets(st.sampled_from(patients)))
    found = split(patients, config, ["test" if patient in tested else "train_val" for patient in patients])
    for patient, where in zip(patients, found, strict=True):
        drawn = patient_fraction(patient, config.seed) < config.valid_fraction
        assert where == ("test" if patient in tested else "valid" if drawn else "train")


def test_rows_in_no_official_list_have_no_split() -> None:
    assert split(["a", "b"], SplitConfig(), [None, "test"]) == [None, "test"]


def test_splits_that_the_release_names_stay_as_they_are() -> None:
    official: list[str | None] = ["train", "valid", "test"]
    assert split(["a", "b", "c"], SplitConfig(valid_fraction=0.5), official) == official


def test_official_splits_that_share_patients_are_refused_together() -> None:
    with pytest.raises(ManifestError, match="2 patients with images in two splits") as caught:
        split(["a", "a", "b", "b", "c"], SplitConfig(), ["test", "train_val", "train_val", "test", "test"])
    assert caught.value.problems == ("patient a: test and train_val", "patient b: test and train_val")


def test_fractions_are_uniform_over_patients() -> None:
    fractions = sorted(patient_fraction(f"nih:{number}", 0) for number in range(10_000))
    # Kolmogorov-Smirnov: the largest gap to the uniform distribution stays below 1.95 / sqrt(n) (p = 0.001).
    assert max(abs(fraction - rank / 10_000) for rank, fraction in enumerate(fractions)) < 0.0195
    assert 0 <= fractions[0] <= fractions[-1] < 1


def test_without_official_split_patients_are_drawn_by_the_asked_shares() -> None:
    found = split([f"nih:{number}" for number in range(20_000)], SplitConfig(valid_fraction=0.1))
    shares = [found.count(name) / len(found) for name in ("train", "valid", "test")]
    assert shares == pytest.approx([0.9 - TEST_FRACTION, 0.1, TEST_FRACTION], abs=0.01)


def test_another_seed_draws_other_patients() -> None:
    patients = [f"nih:{number}" for number in range(100)]
    assert split(patients, SplitConfig(seed=1)) != split(patients, SplitConfig(seed=2))


@pytest.mark.parametrize("fraction", [-0.1, 0.6, float("nan")])
def test_a_fraction_that_cannot_be_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match=r"--valid-fraction .*: expected 0 to 0\.5"):
        SplitConfig(valid_fraction=fraction)


def test_official_lists_decide_the_test_rows(tmp_path: Path) -> None:
    table = built(write_release(tmp_path / "release"))
    names, splits = table.strings("image_id"), table.strings("split")
    assert {name for name, where in zip(names, splits, strict=True) if where == "test"} == set(TEST_NAMES)
    assert table.metadata["split"]["test_fraction"] is None


def test_without_lists_the_summary_says_so(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    for file in ("train_val_list.txt", "test_list.txt"):
        (root / file).unlink()
    report = build(root)
    assert report.split_rule.startswith("NO official lists here")
    assert sum(images for images, _ in report.splits.values()) == len(NAMES)


@pytest.mark.parametrize("missing", ["train_val_list.txt", "test_list.txt"])
def test_one_list_without_the_other_is_refused(tmp_path: Path, missing: str) -> None:
    root = write_release(tmp_path / "release")
    (root / missing).unlink()
    with pytest.raises(ManifestError, match=f"is there but {missing} is not"):
        build(root)


def test_an_image_in_both_lists_is_refused(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    write_lists(root, TRAIN_NAMES, (*TEST_NAMES, TRAIN_NAMES[0]))
    with pytest.raises(ManifestError, match=r"1 images in both train_val_list\.txt and test_list\.txt") as caught:
        build(root)
    assert caught.value.problems == (TRAIN_NAMES[0],)


def test_a_patient_in_both_lists_is_refused(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    write_lists(root, NAMES[:4], NAMES[4:])
    with pytest.raises(ManifestError, match="1 patients with images in two splits") as caught:
        build(root)
    assert caught.value.problems == ("patient nih:3: test and train_val",)


def test_a_name_twice_in_one_list_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    before = built(root).strings("split")
    write_lists(root, ["", *TRAIN_NAMES, f"{TRAIN_NAMES[0]}\r", " "], TEST_NAMES)
    assert built(root).strings("split") == before


def test_list_lines_that_are_no_file_name_are_refused_together(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    write_lists(root, [*TRAIN_NAMES, "../x.png"], ["images/y.png", *TEST_NAMES])
    with pytest.raises(ManifestError, match=r"train_val_list\.txt") as caught:
        build(root)
    assert caught.value.problems == ("line 5: '../x.png': expected the plain name of an image file",)


def test_rows_in_no_list_are_left_out_and_counted(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    write_lists(root, TRAIN_NAMES[1:], TEST_NAMES)
    report = build(root)
    assert report.exclusions["row_in_no_official_list"] == 1
    assert report.left_out is not None
    assert report.left_out.read_text() == f"reason,image_id,path\nrow_in_no_official_list,{TRAIN_NAMES[0]},\n"
