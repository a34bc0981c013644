"""PadChest from its label file to a manifest: columns, filters, the paper's subset, what is refused or left out."""

import gzip
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.datasets.padchest import MEANING, label_table, parse_number, parse_year
from manifests.errors import ConfigError, ManifestError
from manifests.label_spaces import NVUM_CXP, NVUM_NIH
from manifests.selection import select
from manifests.splits import SplitConfig, split_column
from tests.manifests.tiny_padchest import HEADER, LABELS, ROWS, build, built, row, text_of, write_release

EVERYTHING = {"projections": "PA,AP,AP_horizontal,L,COSTAL,EXCLUDE,UNK", "no-finding": "paper"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


def write(tmp_path: Path, *rows: dict[str, str]) -> Path:
    return write_release(tmp_path / "release", rows)


def left_out(root: Path, **options: str) -> dict[str, list[str]]:
    """Return rule -> names of the rows that it leaves out."""
    report = build(root, options=options)
    lines = pl.read_csv(report.left_out) if report.left_out else pl.DataFrame({"reason": [], "image_id": []})
    found: dict[str, list[str]] = {}
    for reason, image_id in lines.select("reason", "image_id").iter_rows():
        found.setdefault(reason, []).append(image_id.removesuffix(".png"))
    return found


def test_a_row_becomes_the_columns_of_the_schema(root: Path) -> None:
    table = built(root)
    found = {name: value for name, value in table.table.slice(2, 1).to_pylist()[0].items() if value != 0}
    assert found.pop("split") in ("train", "valid", "test")
    assert found == {
        "dataset": "padchest",
        "image_id": "12.png",
        "path": "54/12.png",
        "patient_id": "padchest:839860488694292331637988235681460912",
        "study_id": "study-12",
        "view": "L",
        "sex": "M",
        "age_years": 76.0,
        "width": 2500,
        "height": 2048,
        "Effusion": 1,
        "Atelectasis": 1,
    }
    assert table.strings("image_id") == [f"{number}.png" for number in range(10, 15)]
    assert len(table.findings) == 28 + 2


def test_no_finding_is_the_label_normal_unless_the_paper_is_followed(root: Path) -> None:
    assert built(root).column("No Finding").to_pylist() == [1, 0, 0, 0, 0]
    assert built(root, options={"no-finding": "paper"}).column("No Finding").to_pylist() == [1, 0, 0, 0, 1]


def test_consolidation_counts_among_the_infiltrates(root: Path) -> None:
    table = built(root)
    assert table.column("Consolidation").to_pylist() == table.column("Infiltration").to_pylist() == [0, 0, 0, 1, 0]


def test_words_without_a_finding_are_counted_and_listed(root: Path) -> None:
    assert built(root).metadata["unmapped_terms"] == {"copd signs": 1, "sternotomy": 1, "unchanged": 1}
    assert (root.parent / "manifest" / "padchest.unmapped-terms.csv").is_file()


def test_patients_are_drawn_where_no_list_decides_and_never_divided(tmp_path: Path) -> None:
    rows = [row(str(number), PatientID=str(number % 40)) for number in range(200)]
    table = built(write(tmp_path, *rows))
    splits = set(zip(table.strings("patient_id"), table.strings("split"), strict=True))
    assert len(splits) == 40
    assert {split for _, split in splits} == {"train", "valid", "test"}


@given(st.integers(0, 2**31), st.floats(0, 0.5))
def test_no_patient_is_in_two_splits_whatever_the_seed(seed: int, valid_fraction: float) -> None:
    patients = pl.Series([f"padchest:{number % 13}" for number in range(60)])
    splits = split_column(patients, None, SplitConfig(seed=seed, valid_fraction=valid_fraction))
    assert pl.DataFrame([patients.alias("patient"), splits]).unique().height == 13


def test_the_same_release_gives_the_same_bytes(tmp_path: Path) -> None:
    written = [build(write_release(tmp_path / name / "release")).out.read_bytes() for name in ("a", "b")]
    assert written[0] == written[1]


def test_an_index_column_may_be_missing_or_named_and_columns_in_any_order(root: Path) -> None:
    expected = built(root)
    for header in (HEADER[1:], ("Unnamed: 0", *HEADER[1:]), tuple(reversed(HEADER))):
        (root / LABELS).write_text(text_of(ROWS, header))
        assert built(root).table.equals(expected.table)


def test_a_column_twice_or_missing_is_refused(root: Path) -> None:
    (root / LABELS).write_text(text_of(ROWS, (*HEADER, "Labels")))
    with pytest.raises(ManifestError, match="column Labels stands 2 times"):
        build(root)
    (root / LABELS).write_text(text_of(ROWS, HEADER[:-5]))
    with pytest.raises(ManifestError, match="missing column: Labels"):
        build(root)


def test_sizes_are_unknown_where_the_file_has_none(root: Path) -> None:
    (root / LABELS).write_text(text_of(ROWS, [name for name in HEADER if name != "Rows_DICOM"]))
    table = built(root)
    assert table.column("height").null_count == 5
    assert table.column("width").null_count == 0


def test_compressed_windows_and_bom_change_nothing(root: Path) -> None:
    expected = built(root).table
    text = (root / LABELS).read_text()
    (root / LABELS).unlink()
    (root / f"{LABELS}.gz").write_bytes(gzip.compress(text.encode()))
    assert built(root).table.equals(expected)
    for content in ("\ufeff" + text, text.replace("\n", "\r\n"), text.replace("\n", "\r")):
        (root / LABELS).write_text(content, encoding="utf-8", newline="")
        assert built(root).table.equals(expected)


def test_images_are_found_wherever_they_lie(root: Path) -> None:
    (root / "54").rename(root / "all")
    assert built(root).strings("path")[2] == "all/12.png"


def test_missing_images_keep_the_path_of_the_release(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release", images=False)
    assert built(root, allow_missing_images=True).strings("path")[2] == "54/12.png"


@pytest.mark.parametrize(
    ("cells", "age"),
    [
        ({}, 76),
        ({"PatientBirth": "1938"}, 76),
        ({"PatientBirth": ""}, None),
        ({"PatientBirth": "nan"}, None),
        ({"StudyDate_DICOM": ""}, None),
        ({"StudyDate_DICOM": "None"}, None),
        ({"PatientBirth": "2015"}, None),
        ({"PatientBirth": "1880"}, None),
    ],
)
def test_an_age_is_the_years_between_or_unknown(tmp_path: Path, cells: dict[str, str], age: int | None) -> None:
    table = built(write(tmp_path, row("1", **cells)))
    assert table.column("age_years").to_pylist() == [age]
    assert table.metadata["counts"]["ages_unknown"] == (age is None)


def test_a_sex_that_is_neither_is_unknown_and_counted(tmp_path: Path) -> None:
    table = built(write(tmp_path, row("1", PatientSex_DICOM="O"), row("2", PatientSex_DICOM=""), row("3")))
    assert table.column("sex").to_pylist() == [None, None, "M"]
    assert table.metadata["counts"]["sex_unknown"] == 2


def test_each_rule_leaves_out_its_rows_and_a_row_counts_once(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        row("1"),
        row("1", "['nodule']", Projection="EXCLUDE"),
        row("2", PatientID=""),
        row("3", "['a' 'b']"),
        row("4", ""),
        row("5", "[]"),
        row("6", "nan"),
        row("7", "['unchanged', 'suboptimal study']"),
        row("8", Projection="EXCLUDE"),
        row("9", Projection=""),
    )
    assert left_out(root) == {
        "image_again": ["1"],
        "row_without_patient": ["2"],
        "labels_unreadable": ["3"],
        "row_without_labels": ["4", "5", "6"],
        "labels_tell_nothing": ["7"],
        "other_projection": ["8", "9"],
    }
    assert left_out(root, **EVERYTHING)["other_projection"] == ["9"]
    report = build(root)
    assert all(report.meanings[rule] == meaning for rule, meaning in MEANING.items())
    assert report.exclusions["file_without_row"] == 0


@pytest.mark.parametrize(
    ("options", "rule", "names"),
    [
        ({"labeller": "Physician"}, "other_labeller", ["3"]),
        ({"projections": "PA,AP"}, "other_projection", ["4"]),
        ({"projection-method": "manual"}, "projection_not_checked", ["5"]),
        ({"pediatric": "left-out"}, "pediatric", ["6"]),
        ({"age": "over-10-in-2019"}, "too_young", ["6", "7"]),
        ({"images-a-patient": "one"}, "further_image_of_patient", ["2"]),
    ],
)
def test_a_filter_is_an_option(tmp_path: Path, options: dict[str, str], rule: str, names: list[str]) -> None:
    root = write(
        tmp_path,
        row("1"),
        row("2", PatientID=row("1")["PatientID"]),
        row("3", MethodLabel="RNN_model"),
        row("4", Projection="AP_horizontal"),
        row("5", MethodProjection="Inference model"),
        row("6", Pediatric="PED", PatientBirth="2009"),
        row("7", PatientBirth=""),
        row("8", PatientBirth="2008"),
    )
    assert left_out(root) == {}
    assert left_out(root, **options) == {rule: names}


def test_the_first_image_that_the_other_filters_keep_is_the_patients_one(tmp_path: Path) -> None:
    same = row("1")["PatientID"]
    root = write(tmp_path, row("1", Projection="L"), row("2", PatientID=same), row("3", PatientID=same))
    table = built(root, preset="paper")
    assert table.strings("image_id") == ["2.png"]
    assert table.metadata["exclusions"]["further_image_of_patient"] == 1


def test_the_papers_preset_is_its_subset_and_a_test_set(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        row("1", "['unchanged']"),
        row("2", "['nodule']", MethodLabel="RNN_model"),
        row("3", Projection="AP"),
        row("4", Projection="AP_horizontal"),
        row("5", PatientBirth="2009"),
        row("6", MethodProjection=""),
        row("7", "['suboptimal study', 'exclude']"),
    )
    report = build(root, preset="paper")
    assert report.splits["test"] == (3, 3)
    assert report.split_rule == "all test: option split=test"
    table = built(root, preset="paper")
    assert table.strings("image_id") == ["1.png", "3.png", "7.png"]
    assert table.column("No Finding").to_pylist() == [1, 1, 1]
    assert table.metadata["preset"] == "paper"
    assert built(root, preset="paper", options={"split": "patients"}).metadata["split"]["rule"] == "by patient"


def test_an_option_that_is_none_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="--option projections=PA,XX: 'XX' unknown"):
        build(root, options={"projections": "PA,XX"})


def test_models_of_other_datasets_leave_out_what_they_never_saw(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        row("1", "['consolidation']"),
        row("2", "['scoliosis', 'nodule']"),
        row("3", "['nodule']"),
        row("4", "['rib fracture']"),
        row("5", "['normal']", Projection="L"),
        row("6", "['unchanged']"),
    )
    table = built(root, preset="paper", options={"projections": "PA,AP,L"})
    assert select(table, NVUM_NIH, "test").left_out == {
        "view not frontal": 1,
        "Consolidation present": 1,
        "Scoliosis present": 1,
        "Fracture present": 1,
    }
    assert select(table, NVUM_NIH, "test").sample_index_n.tolist() == [2, 5]
    assert select(table, NVUM_CXP, "test").sample_index_n.tolist() == [3, 5]


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ({"ImageID": "../../etc/x.png"}, "ImageID '../../etc/x.png': expected the plain name of a .png file"),
        ({"ImageID": "/etc/x.png"}, "ImageID '/etc/x.png': expected the plain name"),
        ({"ImageID": "x.dcm"}, "ImageID 'x.dcm': expected the plain name of a .png file"),
        ({"ImageID": ""}, "ImageID is blank"),
        ({"ImageDir": "../54"}, "ImageDir '../54': expected the plain name of a folder"),
        ({"ImageDir": ".."}, "ImageDir '..': expected the plain name of a folder"),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused_with_its_line(
    tmp_path: Path, cells: dict[str, str], problem: str
) -> None:
    root = write_release(tmp_path / "release", [*ROWS, row("1", **cells)], images=False)
    with pytest.raises(ManifestError, match=f"line 7: {problem}"):
        build(root, allow_missing_images=True)
    assert not (tmp_path / "manifest").exists()


def test_a_file_cut_short_is_refused(root: Path) -> None:
    text = (root / LABELS).read_text()
    (root / LABELS).write_text(text[:-3])
    with pytest.raises(ManifestError, match="line 6: 34 fields, expected 36"):
        build(root)
    (root / LABELS).write_text(text[: text.rindex("['sternotomy") + 5])
    with pytest.raises(ManifestError, match=r"line 6: .*quotation mark is missing"):
        build(root)


def test_rows_without_any_that_stays_are_refused_with_the_reasons(tmp_path: Path) -> None:
    root = write(tmp_path, row("1", ""))
    with pytest.raises(ManifestError, match="no label row is left") as caught:
        build(root)
    assert caught.value.problems == ("rows without Labels: 1",)


@given(st.lists(st.sampled_from([cells["Labels"] for cells in ROWS] + ["", "['x", "['unchanged']"]), min_size=1))
def test_each_distinct_text_is_one_row_of_the_table(texts: list[str]) -> None:
    table = label_table(pl.Series(texts), by="normal")
    assert table["Labels"].to_list() == sorted(set(texts))
    assert label_table(pl.Series(texts[::-1]), by="normal").equals(table)


@pytest.mark.parametrize(
    ("text", "number"),
    [("2500", 2500), ("2500.0", 2500), ("", None), ("x", None), ("-1", None), ("1e5", None), ("²", None)],
)
def test_a_number_is_one_or_unknown(text: str, number: int | None) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize(("text", "year"), [("20140915", 2014), ("1938.0", 1938), ("0", None), ("99", None)])
def test_a_year_is_one_or_unknown(text: str, year: int | None) -> None:
    assert parse_year(text) == year
