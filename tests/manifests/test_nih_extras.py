"""Expert labels, boxes and RSNA's list beside a ChestX-ray14 release: tables beside its manifest."""

import json
from pathlib import Path

import polars as pl
import pytest

from manifests.datasets.nih_extras import BOX_FILES, BOX_VOCABULARY, RSNA_FILES
from manifests.errors import ConfigError, ManifestError
from manifests.expert import FILES as EXPERT_FILES
from manifests.side_tables import side_table_path
from manifests.table import read_manifest
from tests.manifests.expert_file import write_expert
from tests.manifests.real_release import link_labels
from tests.manifests.tiny_release import NAMES, TEST_NAMES, TRAIN_NAMES, build, write_release

BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


def write_boxes(root: Path, *rows: str) -> None:
    (root / BOX_FILES[0]).write_text("\n".join([BOX_HEADER, *rows]) + "\n")


def write_rsna(root: Path, names: tuple[str, ...]) -> None:
    entries = [{"img_id": name, "subset_img_id": f"uid-{name}", "orig_labels": []} for name in names]
    (root / RSNA_FILES[0]).write_text(json.dumps(entries))


def test_a_release_without_extras_has_no_tables(release: Path) -> None:
    assert build(release).side_tables == {}


def test_boxes_become_a_table_beside_the_manifest(release: Path) -> None:
    write_boxes(release, f"{NAMES[0]},Infiltrate,225.5,547,86.75,79", f"{NAMES[0]},Mass,1,2,3,4,,,")
    report = build(release)
    boxes = pl.read_csv(report.side_tables["boxes"])
    assert boxes.rows() == [(NAMES[0], "Infiltration", 225.5, 547, 86.75, 79), (NAMES[0], "Mass", 1, 2, 3, 4)]
    assert boxes.columns == ["image_id", "finding", "x", "y", "width", "height"]
    assert BOX_FILES[0] in {file["file"] for file in read_manifest(report.out).metadata["sources"]}


def test_expert_labels_become_a_table_and_the_labels_stay_the_released_ones(release: Path) -> None:
    before = read_manifest(build(release).out).table
    write_expert(release / EXPERT_FILES[0])
    report = build(release)
    seen = pl.read_csv(report.side_tables["expert-labels"])
    assert seen.row(2) == (NAMES[3], "test", 1, 1, 0, 1)
    assert read_manifest(report.out).table.equals(before)


def test_the_experts_labels_can_take_the_place_of_the_released(release: Path) -> None:
    write_expert(release / EXPERT_FILES[0])
    report = build(release, options={"labels": "experts"})
    table = read_manifest(report.out)
    assert table.strings("image_id") == [NAMES[0], NAMES[1], NAMES[3], NAMES[4]]
    assert table.findings == ("Pneumothorax", "Lung Opacity", "Lung Lesion", "Fracture")
    assert table.column("Lung Lesion").to_pylist() == [1, 0, 1, 1]
    assert table.column("Lung Opacity").to_pylist() == [0, 1, 0, 0]
    assert report.exclusions["image_no_expert_saw"] == 2
    assert report.exclusions["file_without_row"] == 0
    # In place of them: what the experts did not look for is not labelled, so that nothing of it counts as absent.
    assert table.labelled("nih") == set(table.findings)
    assert table.in_split("test").tolist() == [False, False, True, True]


def test_experts_without_their_file_are_refused(release: Path) -> None:
    with pytest.raises(ConfigError, match=r"--option labels=experts: google2019_nih-chest-xray-labels\.csv or"):
        build(release, options={"labels": "experts"})


def test_a_table_goes_with_its_file(release: Path) -> None:
    write_boxes(release, f"{NAMES[0]},Mass,1,2,3,4")
    table = build(release).side_tables["boxes"]
    (release / BOX_FILES[0]).unlink()
    report = build(release)
    assert not table.exists()
    assert not side_table_path(report.out, "boxes").exists()


def test_rsna_images_in_test_are_a_warning(release: Path) -> None:
    write_rsna(release, (TRAIN_NAMES[0], *TEST_NAMES))
    report = build(release)
    assert "2 images of RSNA Pneumonia are in this release's test: training on them leaks into it" in report.notes
    assert pl.read_csv(report.side_tables["rsna-images"]).row(0) == (TRAIN_NAMES[0], f"uid-{TRAIN_NAMES[0]}")


def test_shared_images_outside_test_are_said_to_be(release: Path) -> None:
    write_expert(release / EXPERT_FILES[0])
    assert "all 2 images of the experts' val set are outside this release's test" in build(release).notes


def test_without_official_lists_any_shared_image_may_be_in_test(release: Path) -> None:
    write_rsna(release, TRAIN_NAMES)
    for name in ("train_val_list.txt", "test_list.txt"):
        (release / name).unlink()
    (note,) = (text for text in build(release).notes if "RSNA" in text)
    assert note.endswith("any of them may be in test")


def test_wrong_boxes_are_reported_together_by_line(release: Path) -> None:
    write_boxes(release, f"{NAMES[0]},Infiltration,1,2,3,4", f"{NAMES[0]},Mass,-1,2,x,4", f"{NAMES[0]},Mass,1,2,3")
    with pytest.raises(ManifestError) as refused:
        build(release)
    assert refused.value.problems == (
        "line 2: Finding Label: finding 'Infiltration' is unknown, did you mean 'Infiltrate'?",
        "line 3: Bbox [x: '-1': expected pixels from 0 up",
        "line 3: w: 'x': expected pixels from 0 up",
        "line 4: 5 fields, expected 6",
    )


@pytest.mark.parametrize("text", ["{", "[1]", '[{"img_id": "a.png"}]', "{}x"])
def test_another_json_is_refused(release: Path, text: str) -> None:
    (release / RSNA_FILES[0]).write_text(text)
    with pytest.raises(ManifestError, match="expected a JSON list of objects with img_id and subset_img_id"):
        build(release)


def test_the_real_boxes_are_all_there(real_data: Path, tmp_path: Path) -> None:
    root = link_labels(tmp_path / "release", real_data)
    for name in ("BBox_List_2017.csv.gz", "google2019_nih-chest-xray-labels.csv.gz"):
        (root / name).symlink_to(real_data / "nih" / name)
    tables = build(root, allow_missing_images=True).side_tables
    boxes = pl.read_csv(tables["boxes"])
    assert len(boxes) == 984
    assert dict(boxes["finding"].value_counts().iter_rows()) == {
        "Atelectasis": 180, "Cardiomegaly": 146, "Effusion": 153, "Infiltration": 123, "Mass": 85, "Nodule": 79,
        "Pneumonia": 120, "Pneumothorax": 98,
    }  # fmt: skip
    assert set(boxes["finding"]) == set(BOX_VOCABULARY.findings)
    assert boxes.select(right=pl.col("x") + pl.col("width"), low=pl.col("y") + pl.col("height")).max().row(0) < (
        1025, 1025,
    )  # fmt: skip
    assert len(pl.read_csv(tables["expert-labels"])) == 1_962 + 2_414
