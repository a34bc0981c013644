"""The released labels against the experts', and what would leak from one set of images into another."""

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from manifests.errors import ManifestError
from manifests.expert import NOT_THERE, RELEASED, against_expert, leak_warnings, read_expert_file
from manifests.table import ManifestTable
from tests.manifests.expert_file import EXPERT_HEADER, write_expert
from tests.manifests.real_release import link_labels
from tests.manifests.tiny_release import HEADER, NAMES, built, row, write_release


@pytest.fixture
def table(tmp_path: Path) -> ManifestTable:
    """Cardiomegaly twice, No Finding, Consolidation|Mass (test), Pleural_Thickening (test), Hernia."""
    return built(write_release(tmp_path / "release"), valid_fraction=0)


def test_agreement_is_counted_a_set(tmp_path: Path, table: ManifestTable) -> None:
    found = against_expert(table, read_expert_file(write_expert(tmp_path / "expert.csv")))
    assert found["agreement"]["Nodule or mass"] == {
        "released": ["Nodule", "Mass"],
        "sets": {
            "test": {
                "images": 2, "true_positives": 1, "false_positives": 0, "false_negatives": 1, "true_negatives": 0,
                "ppv": 1.0, "sensitivity": 0.5,
            },
            "val": {
                "images": 2, "true_positives": 0, "false_positives": 0, "false_negatives": 1, "true_negatives": 1,
                "ppv": None, "sensitivity": 0.0,
            },
        },
    }  # fmt: skip


def test_what_the_manifest_does_not_label_is_not_compared(tmp_path: Path, table: ManifestTable) -> None:
    agreement = against_expert(table, read_expert_file(write_expert(tmp_path / "expert.csv")))["agreement"]
    for finding in ("Fracture", "Airspace opacity"):
        assert agreement[finding] == {"released": [], "sets": {"test": None, "val": None}}


def test_images_are_counted_a_set_and_split(tmp_path: Path, table: ManifestTable) -> None:
    found = against_expert(table, read_expert_file(write_expert(tmp_path / "expert.csv")))
    assert found["images"] == {
        "test": {"train": 0, "valid": 0, "test": 2, NOT_THERE: 1},
        "val": {"train": 2, "valid": 0, "test": 0, NOT_THERE: 0},
    }
    assert found["warnings"] == leak_warnings(found["images"])


def test_one_of_two_words_is_enough_and_an_unlabelled_one_is_no_negative(tmp_path: Path, table: ManifestTable) -> None:
    expert = read_expert_file(write_expert(tmp_path / "expert.csv"))
    column = table.table.column_names.index("Nodule")
    unlabelled = table.table.set_column(column, "Nodule", pa.nulls(table.num_rows, pa.int8()))
    found = against_expert(ManifestTable(table=unlabelled, metadata=table.metadata), expert)
    test = found["agreement"]["Nodule or mass"]["sets"]["test"]
    # Mass is present in one image; of the other nothing can be said.
    assert (test["images"], test["true_positives"], test["false_negatives"]) == (1, 1, 0)


def test_images_of_other_datasets_do_not_match_by_name(tmp_path: Path, table: ManifestTable) -> None:
    other = table.table.set_column(0, "dataset", pa.array(["other"] * table.num_rows))
    expert = read_expert_file(write_expert(tmp_path / "expert.csv"))
    with pytest.raises(ManifestError, match="none of the 5 images with expert labels is in this manifest"):
        against_expert(ManifestTable(table=other, metadata=table.metadata), expert)


@pytest.mark.parametrize(
    ("places", "warnings"),
    [
        ({"test": {"test": 5}, "val": {"valid": 3}}, []),
        ({"test": {"test": 5}, "val": {"train": 3}}, ["3 images of the experts' val set are in this manifest's train"]),
        ({"test": {"train": 2}, "val": {}}, ["2 images of the experts' test set are in this manifest's train"]),
        ({"test": {"valid": 2}, "val": {}}, ["2 images of the experts' test set are in this manifest's valid"]),
        ({"test": {}, "val": {"test": 4}}, ["4 images of the experts' val set are in this manifest's test"]),
    ],
)
def test_leaks_are_warned_of(places: dict[str, dict[str, int]], warnings: list[str]) -> None:
    nothing = {"train": 0, "valid": 0, "test": 0, NOT_THERE: 0}
    found = leak_warnings({name: nothing | counts for name, counts in places.items()})
    assert [text.partition(":")[0] for text in found] == warnings


def test_gzip_and_plain_are_the_same(tmp_path: Path) -> None:
    plain = write_expert(tmp_path / "expert.csv")
    packed = tmp_path / "expert.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_expert_file(packed).equals(read_expert_file(plain))


def test_wrong_rows_are_reported_together_by_line(tmp_path: Path) -> None:
    seen = [
        (NAMES[0], "MAYBE", "NO", "NO", "YES", "val"),
        (NAMES[0], "NO", "NO", "NO", "YES", "valid"),
        ("a/b.png", "NO", "", "NO", "YES", "val"),
    ]
    lines = [EXPERT_HEADER, *(",".join([row(name, patient="1"), *answers]) for name, *answers in seen)]
    (tmp_path / "expert.csv").write_text("\n".join(lines))
    with pytest.raises(ManifestError) as refused:
        read_expert_file(tmp_path / "expert.csv")
    assert [text.partition(": ")[0] for text in refused.value.problems] == ["line 2", *["line 3"] * 2, *["line 4"] * 2]


def test_another_file_names_the_missing_columns(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(f"{HEADER}\n{row(NAMES[0])}\n")
    with pytest.raises(ManifestError, match="missing column: Set Id"):
        read_expert_file(tmp_path / "labels.csv")


def test_real_labels_have_their_known_agreement(real_data: Path, tmp_path: Path) -> None:
    table = built(link_labels(tmp_path / "release", real_data), allow_missing_images=True)
    expert = read_expert_file(real_data / "nih" / "google2019_nih-chest-xray-labels.csv.gz")
    assert dict(expert["set"].value_counts().iter_rows()) == {"test": 1_962, "val": 2_414}
    found = against_expert(table, expert)
    assert found["images"]["test"] == {"train": 0, "valid": 0, "test": 1_962, NOT_THERE: 0}
    assert found["images"]["val"]["train"] + found["images"]["val"]["valid"] == 2_414
    rates = {
        finding: (sets["test"]["ppv"], sets["test"]["sensitivity"])
        for finding, sets in ((finding, found["agreement"][finding]["sets"]) for finding in RELEASED)
        if sets["test"]
    }
    assert set(rates) == {"Pneumothorax", "Nodule or mass"}
    assert rates["Pneumothorax"] == pytest.approx((0.48, 0.50), abs=0.006)
    assert rates["Nodule or mass"] == pytest.approx((0.57, 0.45), abs=0.006)
    pneumothorax = found["agreement"]["Pneumothorax"]["sets"]["test"]
    assert (pneumothorax["true_positives"], pneumothorax["false_positives"]) == (97, 103)
