"""Counts of a manifest against counts of its rows in plain Python."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from manifests.stats import ALL, NOT_GIVEN, manifest_stats
from manifests.table import ManifestTable
from tests.manifests.tiny_release import ROWS, built, row, touch_images, write_labels, write_release


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Any]:
    return manifest_stats(built(write_release(tmp_path / "release"), valid_fraction=0))


def test_the_keys_are_stable(found: dict[str, Any]) -> None:
    assert list(found) == [
        "dataset", "schema_version", "sources", "split_rule", "counts", "exclusions", "exclusion_meanings",
        "flow", "splits", "findings", "not_given", "co_occurrence", "label_spaces",
    ]  # fmt: skip
    assert list(found["splits"]) == ["train", "valid", "test", ALL]
    assert list(found["splits"][ALL]) == ["images", "patients", "views", "sex", "age_years", "age_decades"]
    assert list(found["findings"]["Mass"][ALL]) == ["positive", "negative", "uncertain", "not_labelled"]
    assert list(found["label_spaces"]["nvum-nih"]) == ["findings", "selected", "left_out", "train_priors"]


def test_rows_are_counted_a_split(found: dict[str, Any]) -> None:
    assert {split: (part["images"], part["patients"]) for split, part in found["splits"].items()} == {
        "train": (4, 3),
        "valid": (0, 0),
        "test": (2, 1),
        ALL: (6, 4),
    }
    assert found["splits"]["train"]["views"] == {"AP": 1, "PA": 3}
    assert found["splits"]["train"]["sex"] == {"F": 1, "M": 3}
    assert found["splits"]["valid"]["views"] == {}


def test_ages_are_told_by_quartiles(found: dict[str, Any]) -> None:
    assert found["splits"]["train"]["age_years"] == {
        "known": 4, "min": 58, "first_quartile": 58, "median": 58, "third_quartile": 58.25, "max": 59,
    }  # fmt: skip
    assert found["splits"]["valid"]["age_years"]["median"] is None


def test_ages_are_counted_a_decade_without_gaps(tmp_path: Path) -> None:
    ages = ("5", "9", "10", "39", "")
    root = tmp_path / "release"
    write_labels(root, [row(f"{patient:08d}_000.png", age=age) for patient, age in enumerate(ages, start=1)])
    part = manifest_stats(built(root, allow_missing_images=True))["splits"][ALL]
    assert part["age_decades"] == {"0": 2, "10": 1, "20": 0, "30": 1}


def test_what_is_not_given_is_counted_a_column(found: dict[str, Any]) -> None:
    assert found["not_given"] == {"study_id": 6, "view": 0, "sex": 0, "age_years": 0, "width": 0, "height": 0}


def test_labels_are_counted_a_finding_and_split(found: dict[str, Any]) -> None:
    assert found["findings"]["Cardiomegaly"] == {
        "train": {"positive": 2, "negative": 2, "uncertain": 0, "not_labelled": 0},
        "valid": {"positive": 0, "negative": 0, "uncertain": 0, "not_labelled": 0},
        "test": {"positive": 0, "negative": 2, "uncertain": 0, "not_labelled": 0},
        ALL: {"positive": 2, "negative": 4, "uncertain": 0, "not_labelled": 0},
    }


def test_uncertain_and_missing_labels_are_told_apart(tmp_path: Path) -> None:
    table = built(write_release(tmp_path / "release"))
    column = pa.array([1, 0, -1, -1, None, None], pa.int8())
    changed = table.table.set_column(table.table.column_names.index("Mass"), "Mass", column)
    counts = manifest_stats(ManifestTable(table=changed, metadata=table.metadata))["findings"]["Mass"][ALL]
    assert counts == {"positive": 1, "negative": 1, "uncertain": 2, "not_labelled": 2}


def test_what_the_release_does_not_tell_is_counted(tmp_path: Path) -> None:
    root = tmp_path / "release"
    write_labels(root, [*ROWS, row("00000005_000.png", rest=",,,")])
    touch_images(root, [line.partition(",")[0] for line in ROWS] + ["00000005_000.png"])
    part = manifest_stats(built(root))["splits"][ALL]
    assert part["views"][NOT_GIVEN] == part["sex"][NOT_GIVEN] == 1


def test_co_occurrence_is_symmetric_with_the_positives_on_its_diagonal(found: dict[str, Any]) -> None:
    names, counts = found["co_occurrence"]["findings"], found["co_occurrence"]["counts"]
    for row_number, name in enumerate(names):
        assert counts[row_number][row_number] == found["findings"][name][ALL]["positive"]
        for column in range(len(names)):
            assert counts[row_number][column] == counts[column][row_number]
    at = {name: number for number, name in enumerate(names)}
    assert counts[at["Cardiomegaly"]][at["Emphysema"]] == counts[at["Mass"]][at["Consolidation"]] == 1
    assert counts[at["Cardiomegaly"]][at["Mass"]] == 0


def test_each_label_space_says_what_it_selects(found: dict[str, Any]) -> None:
    space = found["label_spaces"]["nvum-nih"]
    assert space["selected"] == {"train": 4, "valid": 0, "test": 1}
    assert space["left_out"] == {"train": {}, "valid": {}, "test": {"Consolidation present": 1}}
    assert space["train_priors"]["plain"]["Cardiomegaly"] == 2 / 4
    assert space["train_priors"]["authors"]["Cardiomegaly"] == 2 / 4 * (1 - 1 / 4)
    assert found["label_spaces"]["nih14"]["train_priors"]["authors"] is None


def test_without_training_rows_there_are_no_priors(tmp_path: Path) -> None:
    table = built(write_release(tmp_path / "release"), valid_fraction=0)
    tested = ManifestTable(table=table.table.filter(table.in_split("test")), metadata=table.metadata)
    assert manifest_stats(tested)["label_spaces"]["nvum-nih"]["train_priors"] == {"plain": None, "authors": None}
