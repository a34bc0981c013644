"""The reader of ChestX-ray14: what it makes of a row, and what it refuses."""

import gzip
from pathlib import Path

import pytest

from manifests.datasets.nih import MAX_AGE_YEARS, parse_age_years
from manifests.errors import ManifestError
from tests.manifests.tiny_release import HEADER, LABELS, NAMES, ROWS, build, built, row, touch_images, write_labels
from tests.manifests.tiny_release import write_release as write_whole_release

OLD = "Data_Entry_2017.csv"


def write_release(tmp_path: Path, *lines: str) -> Path:
    """Write a release without lists whose label file has `lines` below the usual rows."""
    root = tmp_path / "release"
    write_labels(root, (*ROWS, *lines))
    touch_images(root / "images")
    return root


def problems(root: Path) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        build(root)
    assert not (root.parent / "manifest").exists()
    return list(caught.value.problems)


def test_a_row_becomes_the_columns_of_the_schema(tmp_path: Path) -> None:
    table = built(write_release(tmp_path)).table
    assert table.slice(1, 1).to_pylist() == [
        {
            "dataset": "nih",
            "image_id": "00000001_001.png",
            "path": "images/00000001_001.png",
            "patient_id": "nih:1",
            "study_id": None,
            "view": "PA",
            "sex": "M",
            "age_years": 59.0,
            "split": table.column("split")[1].as_py(),
            "width": 2500,
            "height": 2048,
            **dict.fromkeys(table.column_names[11:], 0),
            "Cardiomegaly": 1,
            "Emphysema": 1,
        }
    ]
    assert len(table.column_names) == 11 + 15


def test_rows_keep_the_order_of_the_label_file(tmp_path: Path) -> None:
    root = tmp_path / "release"
    write_labels(root, reversed(ROWS))
    touch_images(root)
    assert built(root).strings("image_id") == list(reversed(NAMES))


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("58", 58),
        ("058Y", 58),
        ("0", 0),
        ("010M", 10 / 12),
        ("005D", 5 / 365.25),
        ("026W", 26 * 7 / 365.25),
        ("100", 100),
    ],
)
def test_ages_are_read_in_every_unit(text: str, years: float) -> None:
    assert parse_age_years(text) == pytest.approx(years)


@pytest.mark.parametrize("text", ["155", "413Y", str(MAX_AGE_YEARS + 1)])
def test_impossible_ages_are_unknown(text: str) -> None:
    assert parse_age_years(text) is None


@pytest.mark.parametrize("text", ["", "-3", "58 ", "5.5", "Y", "058X", "1000", "٥٨"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected years"):
        parse_age_years(text)


def test_impossible_ages_are_counted_and_missing_ones_are_not(tmp_path: Path) -> None:
    root = write_release(tmp_path, row("00000005_000.png", age="155"), row("00000005_001.png", age=""))
    touch_images(root / "images", ["00000005_000.png", "00000005_001.png"])
    table = built(root)
    assert table.column("age_years").to_pylist()[-2:] == [None, None]
    assert table.metadata["counts"]["ages_over_100"] == 1


def test_the_file_of_2017_with_its_trailing_column_is_read(tmp_path: Path) -> None:
    root = tmp_path / "release"
    write_labels(root, [f"{line}," for line in ROWS], file=OLD, header=f"{HEADER},")
    touch_images(root)
    table = built(root)
    assert table.num_rows == len(ROWS)
    assert [source["file"] for source in table.metadata["sources"]] == [OLD]


def test_the_revision_of_2020_is_preferred_and_that_is_said(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    write_labels(root, ROWS[:1], file=OLD)
    report = build(root)
    assert report.notes == (f"{LABELS} was read; {OLD} was not",)
    assert sum(images for images, _ in report.splits.values()) == len(ROWS)


@pytest.mark.parametrize("file", [f"{LABELS}.gz", LABELS])
def test_gzip_is_told_by_its_content(tmp_path: Path, file: str) -> None:
    root = write_release(tmp_path)
    content = (root / LABELS).read_bytes()
    (root / LABELS).unlink()
    (root / file).write_bytes(gzip.compress(content))
    assert built(root).num_rows == len(ROWS)


def test_a_gz_file_that_the_browser_unpacked_is_read(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    (root / LABELS).rename(root / f"{LABELS}.gz")
    assert built(root).num_rows == len(ROWS)


def test_byte_order_mark_quotes_and_windows_newlines_change_nothing(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    plain = built(root).table
    lines = ["\ufeff" + HEADER, *('"' + line.replace(",", '","') + '"' for line in ROWS)]
    (root / LABELS).write_text("\r\n".join(lines), encoding="utf-8")
    assert built(root).table.equals(plain)


def test_label_file_and_lists_may_lie_one_folder_down(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_whole_release(root / "CXR8")
    table = built(root)
    assert [source["file"] for source in table.metadata["sources"]] == [
        f"CXR8/{LABELS}",
        "CXR8/train_val_list.txt",
        "CXR8/test_list.txt",
    ]
    assert table.strings("path")[0] == f"CXR8/images/{NAMES[0]}"


def test_label_files_in_two_folders_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder in ("one", "two"):
        write_labels(root / folder)
    touch_images(root / "images")
    with pytest.raises(ManifestError, match=f"{LABELS} is in 2 folders; give one as --root"):
        build(root)


def test_a_label_file_too_deep_is_named(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_whole_release(root / "a" / "b")
    with pytest.raises(
        ManifestError, match=r"no label file .*expected Data_Entry_2017_v2020.csv or .*a/b: give that folder"
    ):
        build(root)


def test_the_folder_of_the_images_given_as_root_is_told_apart(tmp_path: Path) -> None:
    root = write_whole_release(tmp_path / "release")
    with pytest.raises(ManifestError, match=f"there is one in {root}: give that folder as --root"):
        build(root / "images")


def test_columns_that_are_blank_throughout_are_unknown(tmp_path: Path) -> None:
    root = tmp_path / "release"
    write_labels(root, [row(name, age="", rest=",,,") for name in NAMES])
    touch_images(root)
    table = built(root)
    for column in ("age_years", "sex", "view", "width", "height"):
        assert table.column(column).null_count == len(NAMES)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (row("00000005_000.png", "Atelectasiss"), "Finding Labels: finding 'Atelectasiss' is unknown, did you mean"),
        (row("00000005_000.png", "Mass|"), "Finding Labels: finding '' is unknown"),
        (
            row("00000005_000.png", "Mass| Nodule"),
            "Finding Labels: finding ' Nodule' is unknown, did you mean 'Nodule'?",
        ),
        (row("00000005_000.png", ""), "Finding Labels is blank"),
        (row("00000005_000.png", "No Finding|Mass"), "Finding Labels: No Finding stands together with Mass"),
        (row(NAMES[0]), f"Image Index '{NAMES[0]}' again (first on line 2)"),
        (row("../../etc/x.png", patient="1"), "Image Index '../../etc/x.png': expected the plain name of a .png file"),
        (row("/etc/x.png", patient="1"), "Image Index '/etc/x.png': expected the plain name"),
        (row("a\\x.png", patient="1"), "Image Index 'a\\\\x.png': expected the plain name"),
        (row("..", patient="1"), "Image Index '..': expected the plain name"),
        (row("x.jpg", patient="1"), "Image Index 'x.jpg': expected the plain name of a .png file"),
        (row("", patient="1"), "Image Index is blank"),
        (row("00000005_000.png", patient="five"), "Patient ID 'five': expected a whole number from 1 to 2147483647"),
        (row("00000005_000.png", patient="0"), "Patient ID '0': expected a whole number from 1 to 2147483647"),
        (row("00000005_000.png", age="old"), "Patient Age: 'old': expected years"),
        (row("00000005_000.png", age="-1"), "Patient Age: '-1': expected years"),
        (row("00000005_000.png", rest="X,PA,1,1"), "Patient Gender: 'X': expected F or M"),
        (row("00000005_000.png", rest="M,LAT,1,1"), "View Position: 'LAT': expected PA or AP"),
        (
            row("00000005_000.png", rest="M,PA,0,1"),
            "OriginalImage[Width '0': expected a whole number from 1 to 2147483647",
        ),
        (row("00000005_000.png", rest="M,PA,1,99999999999"), "Height] '99999999999': expected a whole number"),
        (row("00000005_000.png", rest="M,PA,1"), "10 fields, expected 11"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line(tmp_path: Path, line: str, problem: str) -> None:
    found = problems(write_release(tmp_path, line))
    assert len(found) == 1
    assert found[0].startswith(f"line {len(ROWS) + 2}: {problem}")


def test_wrong_rows_are_reported_together(tmp_path: Path) -> None:
    root = write_release(tmp_path, row("x.gif", "Masss", age="x", patient="y"), row(NAMES[1]))
    assert [problem.partition(":")[0] for problem in problems(root)] == ["line 8"] * 4 + ["line 9"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (f"{HEADER}\n".encode(), "no row below the header"),
        (b"\n<!DOCTYPE html>\n<html><body>Log in</body></html>", "this is an HTML page"),
        (HEADER.replace("Finding Labels,", "").encode() + b"\nx", "line 1: expected the columns"),
        (f"{HEADER}\n".encode() + b"\xff\xfe", r"not UTF-8 at line 2 \(byte 0xff\)"),
        (gzip.compress(HEADER.encode())[:-9], "broken gzip"),
        (gzip.compress(HEADER.encode() * 50)[:30] + b"x" * 30, "broken gzip"),
        ("a,b\n".encode("utf-16"), "not UTF-8 at line 1"),
    ],
)
def test_a_label_file_that_is_none_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    root = write_release(tmp_path)
    (root / LABELS).write_bytes(content)
    with pytest.raises(ManifestError, match=message) as caught:
        build(root)
    assert str(root / LABELS) in str(caught.value)
    assert not (tmp_path / "manifest").exists()


def test_a_folder_without_label_file_is_refused(tmp_path: Path) -> None:
    touch_images(tmp_path / "release")
    with pytest.raises(ManifestError, match="no label file in this folder or one below it"):
        build(tmp_path / "release")
