"""The complete label file of ChestX-ray14, to the last row, and its real images."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from manifests.datasets import dataset
from manifests.errors import ManifestError
from manifests.label_spaces import NIH14, NVUM_NIH
from manifests.selection import class_prior, select
from manifests.stats import ALL, manifest_stats
from manifests.table import ManifestTable
from tests.manifests.real_release import FILES, link_labels
from tests.manifests.tiny_release import build, built

POSITIVES = {
    "Infiltration": 19_894, "Effusion": 13_317, "Atelectasis": 11_559, "Nodule": 6_331, "Mass": 5_782,
    "Pneumothorax": 5_302, "Consolidation": 4_667, "Pleural_Thickening": 3_385, "Cardiomegaly": 2_776,
    "Emphysema": 2_516, "Edema": 2_303, "Fibrosis": 1_686, "Pneumonia": 1_431, "Hernia": 227, "No Finding": 60_361,
}  # fmt: skip

# Of the trimmed training set, validation included, in the order of the label space; five digits.
PLAIN_PRIORS = (
    0.08993, 0.01964, 0.09439, 0.15621, 0.04378, 0.05265, 0.00972, 0.03026, 0.01536, 0.01634, 0.01437, 0.02501,
    0.00167, 0.60355,
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> ManifestTable:
    """All 112,120 rows, a tenth of the training patients in validation."""
    root = link_labels(tmp_path_factory.mktemp("whole") / "release", real_data)
    return built(root, allow_missing_images=True)


@pytest.fixture(scope="module")
def undivided(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> ManifestTable:
    """All 112,120 rows, without validation."""
    root = link_labels(tmp_path_factory.mktemp("undivided") / "release", real_data)
    return built(root, allow_missing_images=True, valid_fraction=0)


def test_rows_patients_and_views_are_those_of_the_release(whole: ManifestTable) -> None:
    everything = manifest_stats(whole)["splits"][ALL]
    assert (everything["images"], everything["patients"]) == (112_120, 30_805)
    assert everything["views"] == {"AP": 44_810, "PA": 67_310}
    assert (dataset("nih").num_images, dataset("nih").num_patients) == (112_120, 30_805)
    assert whole.metadata["counts"]["ages_over_100"] == 0


def test_every_finding_has_its_published_number_of_positives(whole: ManifestTable) -> None:
    findings = manifest_stats(whole)["findings"]
    assert {name: counts[ALL]["positive"] for name, counts in findings.items()} == POSITIVES
    assert all(counts[ALL]["not_labelled"] == counts[ALL]["uncertain"] == 0 for counts in findings.values())


def test_the_official_split_is_kept(whole: ManifestTable, undivided: ManifestTable) -> None:
    splits = manifest_stats(undivided)["splits"]
    assert {split: (part["images"], part["patients"]) for split, part in splits.items()} == {
        "train": (86_524, 28_008),
        "valid": (0, 0),
        "test": (25_596, 2_797),
        ALL: (112_120, 30_805),
    }
    assert whole.in_split("test").tolist() == undivided.in_split("test").tolist()


def test_no_patient_is_in_two_splits(whole: ManifestTable) -> None:
    pairs = whole.table.select(["patient_id", "split"]).group_by(["patient_id", "split"]).aggregate([])
    assert pairs.num_rows == 30_805
    assert manifest_stats(whole)["splits"]["valid"]["patients"] == pytest.approx(2_800, rel=0.1)


def test_the_benchmark_selects_its_published_rows(whole: ManifestTable) -> None:
    counts = {split: select(whole, NVUM_NIH, split).num_selected for split in ("train", "valid", "test")}
    assert counts["train"] + counts["valid"] == 83_672
    assert counts["test"] == 23_781
    assert select(whole, NVUM_NIH, None).left_out == {"Consolidation present": 4_667}
    assert select(whole, NIH14, None).num_selected == 112_120


def test_the_priors_are_the_published_ones(undivided: ManifestTable) -> None:
    selection = select(undivided, NVUM_NIH, "train")
    assert class_prior(selection, "plain").round(5).tolist() == list(PLAIN_PRIORS)
    authors = np.array([*(prior * (1 - 0.60355) for prior in PLAIN_PRIORS[:-1]), 0.60355])
    np.testing.assert_allclose(class_prior(selection), authors, atol=1e-5)


def test_both_folders_of_real_images_are_matched(real_data: Path, tmp_path: Path) -> None:
    report = build(real_data / "nih", out=tmp_path / "nih.parquet")
    assert sum(images for images, _ in report.splits.values()) == 1_000 + 112
    assert report.exclusions["row_without_file"] == 112_120 - 1_112
    assert report.exclusions["file_without_row"] == 0
    assert report.left_out is not None
    assert report.left_out.read_text().count("\n") == 1 + 112_120 - 1_112


def test_one_folder_can_be_chosen(real_data: Path, tmp_path: Path) -> None:
    table = built(real_data / "nih", out=tmp_path / "nih.parquet", images="images_1024")
    assert table.num_rows == 112
    assert pc.all(pc.starts_with(table.column("path"), "images_1024/")).as_py()


def test_a_patients_split_is_that_of_the_whole_release(real_data: Path, tmp_path: Path, whole: ManifestTable) -> None:
    few = built(real_data / "nih", out=tmp_path / "nih.parquet")
    where = dict(zip(whole.strings("patient_id"), whole.strings("split"), strict=True))
    assert few.strings("split") == [where[patient] for patient in few.strings("patient_id")]


def test_the_real_lists_need_each_other(real_data: Path, tmp_path: Path) -> None:
    root = link_labels(tmp_path / "release", real_data, FILES[:2])
    with pytest.raises(ManifestError, match=r"train_val_list\.txt is there but test_list\.txt is not"):
        build(root, allow_missing_images=True)
