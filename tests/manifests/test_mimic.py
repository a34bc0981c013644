"""MIMIC-CXR-JPG: images from two files, labels of their studies from a third."""

from pathlib import Path

import pytest

from manifests.datasets.mimic import WITHOUT_LABELS
from manifests.errors import ConfigError, ManifestError
from manifests.label_spaces import label_space
from manifests.selection import select
from tests.manifests.tiny_mimic import (
    IMAGES,
    LABEL_HEADER,
    METADATA_HEADER,
    NAMES,
    SPLIT_HEADER,
    STUDIES,
    build,
    built,
    metadata_row,
    split_row,
    write_file,
    write_release,
)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


def test_images_have_their_place_patient_and_study(release: Path) -> None:
    table = built(release)
    assert table.strings("image_id") == [image[0] for image in IMAGES]
    assert table.strings("path")[0] == f"files/p10/p10000032/s50414267/{NAMES[0]}"
    assert table.strings("patient_id") == [f"mimic:{image[1]}" for image in IMAGES]
    assert table.strings("study_id") == [str(image[2]) for image in IMAGES]
    assert table.strings("view") == ["PA", "LATERAL", "AP", None, "AP"]
    assert table.column("width").to_pylist() == [2544] * 5
    assert table.column("height").to_pylist() == [3056] * 5
    assert table.column("sex").null_count == table.column("age_years").null_count == 5


def test_the_official_split_is_kept_and_none_is_carved_out(release: Path) -> None:
    table = built(release)
    assert table.strings("split") == ["train", "train", "train", "valid", "test"]
    assert table.metadata["split"]["rule"] == "the release's own split: train, validate, test"


def test_labels_of_a_study_are_those_of_its_images(release: Path) -> None:
    table = built(release)
    assert table.column("No Finding").to_pylist() == [1, 1, None, None, 1]
    assert table.column("Atelectasis").to_pylist() == [None, None, -1, None, None]
    assert table.column("Effusion").to_pylist() == [None, None, 1, None, 0]
    assert table.column("Pneumonia").to_pylist() == [None, None, None, -1, None]
    assert len(table.findings) == 14


def test_the_labeler_is_chosen_and_recorded(release: Path) -> None:
    write_file(release, "negbio", LABEL_HEADER, [STUDIES[0].replace("1.0", ""), *STUDIES[1:]])
    table = built(release, options={"labeler": "negbio"})
    assert table.column("No Finding").to_pylist() == [None, None, None, None, 1]
    assert table.metadata["options"] == {"labeler": "negbio"}
    assert "mimic-cxr-2.0.0-negbio.csv.gz" in {file["file"] for file in table.metadata["sources"]}


def test_the_other_labelers_file_names_the_option(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release", labeler="negbio")
    with pytest.raises(ConfigError, match="those of negbio are; give --option labeler=negbio"):
        build(root)


def test_packed_and_unpacked_files_are_the_same(tmp_path: Path, release: Path) -> None:
    unpacked = write_release(tmp_path / "other" / "release", packed=False)
    assert built(unpacked).table.equals(built(release).table)


def test_images_are_found_in_other_folders(release: Path) -> None:
    (release / "flat").mkdir()
    for path in sorted((release / "files").rglob("*.jpg")):
        path.rename(release / "flat" / path.name)
    assert built(release).strings("path") == [f"flat/{name}" for name in NAMES]


def test_a_study_without_labels_is_left_out_and_never_negative(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release", studies=[STUDIES[0], *STUDIES[2:]])
    report = build(root)
    assert report.exclusions[WITHOUT_LABELS] == 1
    assert report.exclusions["file_without_row"] == 0
    assert report.left_out is not None
    assert IMAGES[2][0] in report.left_out.read_text()
    assert sum(images for images, _ in report.splits.values()) == 4


def test_an_image_outside_the_split_is_left_out(release: Path) -> None:
    write_file(release, "split", SPLIT_HEADER, map(split_row, IMAGES[1:]))
    assert build(release).exclusions["row_in_no_official_list"] == 1


def test_chexperts_label_space_fits(release: Path) -> None:
    selection = select(built(release), label_space("chexpert14"), "train")
    assert selection.num_selected == 3
    assert selection.targets_NC[2].sum() == 3  # Lung Opacity, Effusion, Support Devices; the uncertain one is masked
    assert not selection.mask_NC[2].all()


def test_lateral_views_are_not_frontal(release: Path) -> None:
    selection = select(built(release), label_space("nvum-cxp"), "train")
    assert selection.left_out["view not frontal"] == 1


def test_files_that_contradict_each_other_are_refused_together(release: Path) -> None:
    wrong = [split_row(IMAGES[0]).replace("10000032", "10000033"), split_row(IMAGES[1]).replace("50414267", "50414268")]
    write_file(release, "split", SPLIT_HEADER, [*wrong, *map(split_row, IMAGES[2:])])
    write_file(release, "chexpert", LABEL_HEADER, [*STUDIES[:3], STUDIES[3].replace("10000898", "10000899")])
    with pytest.raises(ManifestError) as refused:
        build(release)
    assert refused.value.problems == (
        f"line 2: dicom_id {IMAGES[0][0]}: subject 10000032 here, 10000033 in the file of the split",
        f"line 3: dicom_id {IMAGES[1][0]}: study 50414267 here, 50414268 in the file of the split",
        f"line 6: dicom_id {IMAGES[4][0]}: subject 10000898 here, 10000899 in the file of the labels",
    )


@pytest.mark.parametrize(
    ("name", "header", "rows", "problem"),
    [
        ("metadata", METADATA_HEADER, [metadata_row(IMAGES[0])] * 2, "line 3: image_id .* again"),
        ("metadata", METADATA_HEADER, ["../x,1,2,,PA,1,1,,,,,"], r"line 2: dicom_id '\.\./x': expected a plain name"),
        ("metadata", METADATA_HEADER, ["x,p1,2,,PA,1,0,,,,,"], "line 2: Columns '0'.*\n.*line 2: subject_id 'p1'"),
        ("split", SPLIT_HEADER, ["x,2,1,valid"], "line 2: split: 'valid': expected train or validate or test"),
        ("split", SPLIT_HEADER, ["x,2,1,"], "line 2: split is blank"),
        ("chexpert", LABEL_HEADER, [STUDIES[0], STUDIES[0]], "line 3: study 50414267 again"),
        ("chexpert", LABEL_HEADER, [STUDIES[0].replace("1.0", "2.0")], "line 2: No Finding '2.0': expected 1, 0, -1"),
        ("chexpert", LABEL_HEADER.replace("Edema", "Oedema"), STUDIES, "missing column: Edema"),
    ],
)
def test_wrong_rows_are_refused_with_their_line(
    release: Path, name: str, header: str, rows: list[str], problem: str
) -> None:
    write_file(release, name, header, rows)
    with pytest.raises(ManifestError, match=problem):
        build(release)


def test_a_missing_file_is_named(release: Path) -> None:
    (release / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    with pytest.raises(ManifestError, match=r"expected mimic-cxr-2\.0\.0-split\.csv or mimic-cxr-2\.0"):
        build(release)
