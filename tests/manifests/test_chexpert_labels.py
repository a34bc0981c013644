"""The reader of CheXpert: what it makes of a row, where it finds the image, and what it refuses."""

import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.datasets.chexpert import path_pieces
from manifests.errors import ConfigError, ManifestError
from manifests.lines import LINE
from manifests.rows import Rows
from tests.manifests.tiny_chexpert import (
    FULL,
    HEADER,
    SMALL,
    TEST,
    TRAIN,
    VALID,
    build,
    built,
    image,
    row,
    write_csv,
    write_release,
)

PATHS = (
    "train/patient1/study1/view1_frontal.jpg",
    "release/train/patient00002/study10/view2_lateral.jpg",
    "ätrain/train/patient3/study1/view1_frontal.jpg",
    "train/patient4/study1",
    "train/patient4/study1/view1_frontal.jpg/more",
    "train/patient/study1/view1_frontal.jpg",
    "train/patient5/study/view1_frontal.jpg",
    "train/patient5/study1/view1_frontal.jpg\n",
    "a/release/train/patient6/study1/view1_frontal.jpg",
    "train/patient7/train/patient7/study1/view1_frontal.jpg",
    "no path",
    "",
)


def problems(root: Path) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as caught:
        build(root, allow_missing_images=True)
    assert not (root.parent / "manifest").exists()
    return caught.value.problems


def test_a_row_becomes_the_columns_of_the_schema(tmp_path: Path) -> None:
    table = built(write_release(tmp_path / "release")).table
    found = table.slice(1, 1).to_pylist()[0]
    labels = {"Lung Opacity": -1, "Edema": -1, "Pneumothorax": -1, "Fracture": 1}
    assert found == {
        "dataset": "chexpert",
        "image_id": "train/patient00002/study2/view1_frontal.jpg",
        "path": "train/patient00002/study2/view1_frontal.jpg",
        "patient_id": "chexpert:patient00002",
        "study_id": "patient00002/study2",
        "view": "AP",
        "sex": "M",
        "age_years": 87.0,
        "split": found["split"],
        "width": None,
        "height": None,
        **dict.fromkeys(table.column_names[11:], None),
        **labels,
    }
    assert len(table.column_names) == 11 + 14


def test_present_absent_uncertain_and_blank_stay_four_things(tmp_path: Path) -> None:
    table = built(write_release(tmp_path / "release")).table
    assert table.column("Pneumothorax").to_pylist() == [0, -1, *[None] * 8]
    assert table.column("Effusion").to_pylist() == [*[None] * 5, 1, *[None] * 4]
    assert table.column("Edema").to_pylist() == [None, -1, None, None, None, None, 0, None, 0, None]


def test_views_are_the_releases_words_and_side_views_are_lateral(tmp_path: Path) -> None:
    table = built(write_release(tmp_path / "release", test=TEST), options={"official-valid": "test"})
    views = ["AP", "AP", "AP", "Lateral", "PA", "LL", "RL", "PA", "AP", "PA", "Frontal", "Lateral", "Frontal"]
    assert table.strings("view") == views


def test_age_0_and_sex_unknown_are_null_and_counted(tmp_path: Path) -> None:
    table = built(write_release(tmp_path / "release"))
    assert table.column("age_years")[4].as_py() is table.column("sex")[4].as_py() is None
    assert table.column("age_years").null_count == table.column("sex").null_count == 1
    counts = table.metadata["counts"]
    assert (counts["ages_0"], counts["sex_unknown"]) == (1, 1)
    assert (counts["rows_train"], counts["rows_valid"]) == (8, 2)


@pytest.mark.parametrize(
    ("labels_in", "images_in"),
    [
        ("", ""),
        (SMALL, SMALL),
        (f"{FULL} batch 1 (validate & csv)", ""),
        ("", "deeper/and/deeper"),
    ],
)
def test_images_are_found_wherever_their_patients_folder_lies(tmp_path: Path, labels_in: str, images_in: str) -> None:
    root = tmp_path / "release"
    write_csv(root / labels_in / "train.csv", [line.replace(SMALL, FULL) for line in TRAIN])
    for line in TRAIN:
        path = line.partition(",")[0].removeprefix(f"{SMALL}/")
        file = root / images_in / path.replace(".jpg", ".JPG")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    table = built(root)
    assert table.strings("image_id") == [line.partition(",")[0].removeprefix(f"{SMALL}/") for line in TRAIN]
    assert all((root / str(path)).is_file() for path in table.strings("path"))


def test_parts_of_the_full_release_need_not_be_joined(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    (root / f"{FULL} batch 2 (train 1)").mkdir()
    (root / "train" / "patient00001").rename(root / f"{FULL} batch 2 (train 1)" / "patient00001")
    report = build(root)
    assert report.exclusions["row_without_file"] == report.exclusions["file_without_row"] == 0


def test_two_releases_below_one_root_are_refused_with_the_way_out(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    for size in (SMALL, FULL):
        (root / size / "patient00001" / "study1").mkdir(parents=True)
        (root / size / "patient00001" / "study1" / "view1_frontal.jpg").touch()
    with pytest.raises(ManifestError, match="choose one with --images SUBDIR"):
        build(root)


def test_without_an_image_a_row_has_the_path_that_the_release_would_give_it(tmp_path: Path) -> None:
    root = tmp_path / "release"
    write_csv(root / SMALL / "train.csv", TRAIN[:1])
    table = built(root, allow_missing_images=True)
    assert table.strings("path") == [f"{SMALL}/{image(1)}"]


def test_validation_is_carved_out_of_training_by_patient_and_never_out_of_the_radiologists(tmp_path: Path) -> None:
    train = [row(image(patient, study)) for patient in range(1, 301) for study in (1, 2)]
    root = write_release(tmp_path / "release", train=train, test=TEST)
    table = built(root, valid_fraction=0.2)
    splits = dict(zip(table.strings("image_id"), table.strings("split"), strict=True))
    assert {split for path, split in splits.items() if str(path).startswith("test/")} == {"test"}
    assert 60 < sum(split == "valid" for split in splits.values()) < 180
    pairs = set(zip(table.strings("patient_id"), table.strings("split"), strict=True))
    assert len(pairs) == len(set(table.strings("patient_id")))


@pytest.mark.parametrize(
    ("chosen", "with_test", "split"),
    [
        ("auto", False, "test"),
        ("auto", True, None),
        ("test", True, "test"),
        ("valid", True, "valid"),
        ("left-out", False, None),
    ],
)
def test_what_becomes_of_the_234_is_an_option(tmp_path: Path, chosen: str, with_test: bool, split: str | None) -> None:
    root = write_release(tmp_path / "release", test=TEST if with_test else ())
    report = build(root, options={"official-valid": chosen}, valid_fraction=0)
    assert report.splits["test"][0] == (3 if with_test else 0) + (2 if split == "test" else 0)
    assert report.splits["valid"][0] == (2 if split == "valid" else 0)
    assert report.exclusions["official_valid_images"] == (2 if split is None else 0)
    assert report.exclusions["file_without_row"] == 0
    if split is None:
        assert report.left_out is not None
        assert f"official_valid_images,{image(64541, part='valid')}," in report.left_out.read_text()


def test_an_option_that_is_none_is_refused_with_those_there_are(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    with pytest.raises(ConfigError, match=r"--option official-valid=dev: 'dev' unknown \(there are: auto, test"):
        build(root, options={"official-valid": "dev"})
    with pytest.raises(ConfigError, match=r"--option oficial-valid: unknown; did you mean official-valid\?"):
        build(root, options={"oficial-valid": "test"})
    with pytest.raises(ConfigError, match=r"--preset paper: unknown \(there are: none\) of dataset chexpert"):
        build(root, preset="paper")


def test_the_labels_alone_of_the_test_set_make_a_manifest(tmp_path: Path) -> None:
    root = tmp_path / "release"
    write_release(root, test=TEST)
    for name in ("train.csv", "valid.csv"):
        (root / name).unlink()
    report = build(root, allow_missing_images=True)
    assert report.splits == {"train": (0, 0), "valid": (0, 0), "test": (3, 2)}
    assert "train.csv is not there: nothing to train on" in report.notes


def test_a_wrong_root_names_the_files_that_it_looked_for(tmp_path: Path) -> None:
    root = tmp_path / "release" / "inside"
    root.mkdir(parents=True)
    write_csv(root.parent / "train.csv", TRAIN)
    with pytest.raises(ManifestError, match=r"expected train.csv or valid.csv or .*; there is one in .*give that"):
        build(root, allow_missing_images=True)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (row("train/patient1/../view1_frontal.jpg"), "line 2: Path"),
        (row(image(1, part="valid")), "line 2: Path"),
        ("/" + row(image(1)), "line 2: Path"),
        (row(image(1)).replace(".jpg", ".png"), "line 2: Path"),
        (row("train/patient00001/study1"), "line 2: Path"),
        (row("train/patient00001/study1/more/view1_frontal.jpg"), "line 2: Path"),
        (row(image(1)).replace(SMALL, f"a/{SMALL}"), "line 2: Path"),
        (row(image(1)).replace(f"{SMALL}/{image(1)}", ""), "line 2: Path is blank"),
        (row(image(1), sex="female"), "line 2: Sex: 'female': expected Female or Male or Unknown"),
        (row(image(1), age="068Y"), "line 2: Age: '068Y': expected whole years, 0 to 120"),
        (row(image(1), age=121), "line 2: Age: '121': expected whole years, 0 to 120"),
        (row(image(1), age=""), "line 2: Age is blank"),
        (row(image(1), view="AP_horizontal"), "line 2: AP/PA: 'AP_horizontal': expected AP or PA or LL or RL"),
        (row(image(1), Edema="0.5"), "line 2: Edema '0.5': expected 1, 0, -1 or blank"),
        (row(image(1)) + ",", "line 2: 20 fields, expected 19"),
        (row(image(1)).rpartition(",")[0], "line 2: 18 fields, expected 19"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(tmp_path: Path, line: str, problem: str) -> None:
    root = tmp_path / "release"
    write_csv(root / "train.csv", [line, *TRAIN[1:]])
    (found,) = problems(root)
    assert found.startswith(problem)


@given(st.lists(st.sampled_from(PATHS), min_size=1, max_size=6))
def test_a_path_is_refused_where_it_does_not_match_as_a_whole(paths: list[str]) -> None:
    regular = r"([^/]+/)?train/patient[0-9]+/study[0-9]+/view[0-9]+_(frontal|lateral)\.jpg"
    rows = Rows("train.csv", pl.DataFrame({LINE: range(len(paths)), "Path": paths}))
    pieces = path_pieces(rows, "train")
    refused = [line for line, _ in rows.problems]
    assert refused == [line for line, path in enumerate(paths) if not re.fullmatch(regular, path)]
    for line, path in enumerate(paths):
        if line not in refused:
            image_id = path[path.index("train/patient") :]
            _, patient, study, name = image_id.split("/")
            assert pieces.select("image_id", "patient_id", "study_id", "name").row(line) == (
                image_id,
                f"chexpert:{patient}",
                f"{patient}/{study}",
                f"{study}/{name}",
            )


def test_an_image_twice_is_refused_whatever_the_releases_name(tmp_path: Path) -> None:
    root = tmp_path / "release"
    write_csv(root / "train.csv", [*TRAIN, TRAIN[0].replace(SMALL, FULL)])
    assert problems(root) == (f"line 10: image_id {image(1)!r} again (first on line 2)",)


def test_a_patient_in_training_and_test_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "release"
    write_csv(root / "train.csv", TRAIN)
    write_csv(root / "valid.csv", [row(image(1, part="valid"))])
    assert problems(root) == ("patient chexpert:patient00001: test and train_val",)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("begin", ["", "\ufeff"])
def test_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path: Path, end: str, begin: str) -> None:
    plain, other = tmp_path / "a" / "release", tmp_path / "b" / "release"
    write_csv(plain / "train.csv", TRAIN)
    other.mkdir(parents=True)
    (other / "train.csv").write_bytes((begin + end.join([HEADER, *TRAIN, ""])).encode())
    one, two = (built(root, allow_missing_images=True).table for root in (plain, other))
    assert one.equals(two)


def test_quoted_cells_are_read_as_others_are(tmp_path: Path) -> None:
    plain, quoted = tmp_path / "a" / "release", tmp_path / "b" / "release"
    write_csv(plain / "train.csv", TRAIN)
    lines = [",".join(f'"{cell}"' for cell in line.split(",")) for line in (HEADER, *TRAIN)]
    write_csv(quoted / "train.csv", lines[1:], lines[0])
    one, two = (built(root, allow_missing_images=True).table for root in (plain, quoted))
    assert one.equals(two)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER[:-16].encode(), "missing column: Support Devices"),
        (HEADER.encode(), "no row below the header"),
        (b"", "the file is empty"),
        (f"{HEADER}\n{TRAIN[0]}\n".encode("utf-16"), "not UTF-8 at line 1"),
        (f"{HEADER}\n{TRAIN[0]}\n{TRAIN[1][:30]}".encode(), "line 3: 1 fields, expected 19"),
    ],
)
def test_a_file_cut_short_or_in_another_encoding_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    root = tmp_path / "release"
    root.mkdir()
    (root / "train.csv").write_bytes(content)
    with pytest.raises(ManifestError, match=message):
        build(root, allow_missing_images=True)


def test_the_small_and_the_full_release_give_the_same_rows(tmp_path: Path) -> None:
    small, full = tmp_path / "a" / "release", tmp_path / "b" / "release"
    write_csv(small / "train.csv", TRAIN)
    write_csv(small / "valid.csv", VALID)
    write_csv(full / "train.csv", [line.replace(SMALL, FULL) for line in TRAIN])
    write_csv(full / "valid.csv", [line.replace(SMALL, FULL) for line in VALID])
    one, two = (built(root, allow_missing_images=True).table for root in (small, full))
    assert one.equals(two)
