"""OpenI from its releases to a manifest: images under all their names, views, labels, what is left out."""

import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset as DicomDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from manifests.datasets.openi_images import age_of, image_key, view_of
from manifests.errors import ConfigError, ManifestError
from manifests.label_spaces import NVUM_CXP, NVUM_NIH
from manifests.selection import select
from manifests.table import ManifestTable
from tests.manifests.tiny_openi import (
    HEADER,
    IMAGES,
    archive,
    build,
    built,
    touch,
    write_archive,
    write_header_table,
    write_kaggle,
    write_projections,
    xml,
)  # fmt: skip

OPEN_I = tuple(f"{name}.png" for name in IMAGES)
DICOM = tuple(f"{name.replace('CXR1_1_', 'CXR1_').removeprefix('CXR')}.dcm" for name in IMAGES)
KAGGLE = tuple(f"{name}.png" for name in DICOM)
FRONTAL = ["Frontal", "Lateral", "Frontal", "Lateral", "Frontal", "Frontal", "Frontal"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A release that has the reports alone."""
    return write_archive(tmp_path / "release")


def column(table: ManifestTable, name: str) -> list[object]:
    values: list[object] = table.column(name).to_pylist()
    return values


def write_dicom(path: Path, **fields: object) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ComputedRadiographyImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dicom = DicomDataset()
    dicom.file_meta = meta
    dicom.SOPClassUID, dicom.SOPInstanceUID = ComputedRadiographyImageStorage, meta.MediaStorageSOPInstanceUID
    for name, value in fields.items():
        setattr(dicom, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dicom.save_as(path, enforce_file_format=True)


def test_an_image_is_a_row_with_the_labels_of_its_report(root: Path) -> None:
    table = built(root)
    row = table.table.slice(2, 1).to_pylist()[0]
    assert {name: value for name, value in row.items() if value != 0} == {
        "dataset": "openi",
        "image_id": "CXR2_IM-0652-1001",
        "path": "CXR2_IM-0652-1001.png",
        "patient_id": "openi:2",
        "study_id": "CXR2",
        "view": None,
        "sex": None,
        "age_years": None,
        "split": "test",
        "width": None,
        "height": None,
        "Cardiomegaly": 1,
    }
    assert len(table.findings) == 19


def test_without_any_of_its_findings_a_report_has_no_finding(root: Path) -> None:
    assert column(built(root), "No Finding") == [1, 1, 0, 0, 0, 1, 0]
    assert column(built(root, options={"labels": "terms"}), "No Finding") == [1, 1, 0, 0, 0, 1, 1]


def test_everything_is_a_test_set_whatever_is_asked_for_validation(root: Path) -> None:
    report = build(root)
    assert report.splits == {"train": (0, 0), "valid": (0, 0), "test": (7, 5)}
    assert report.split_rule == "all test: a test set, on which nobody trains"


def test_the_false_friends_are_counted_and_said(root: Path) -> None:
    report = build(root)
    assert any("in 1 reports it takes pericardial effusion" in note for note in report.notes)
    assert not any("pericardial" in note for note in build(root, options={"labels": "terms"}).notes)


def test_reports_without_an_image_are_counted_and_listed(root: Path) -> None:
    report = build(root)
    assert report.exclusions["report_without_image"] == 1
    assert report.left_out is not None
    assert "report_without_image,CXR16," in report.left_out.read_text()


def test_a_report_that_nobody_indexed_has_no_label_by_major_terms(root: Path) -> None:
    report = build(root, options={"labels": "terms", "mesh": "major"})
    assert report.exclusions["report_not_indexed"] == 1
    table = built(root, options={"labels": "terms", "mesh": "major"})
    assert "CXR20_IM-0653-1001-0001" not in table.strings("image_id")
    assert "Scoliosis" in table.labelled("openi")
    assert "Lung Lesion" not in table.findings


def test_terms_that_name_nothing_are_counted_once_a_report_and_listed(root: Path) -> None:
    table = built(root, options={"labels": "terms", "mesh": "major"})
    assert table.metadata["unmapped_terms"] == {"pericardial effusion": 1, "pulmonary artery/enlarged": 1}
    listed = (root.parent / "manifest" / "openi.unmapped-terms.csv").read_text()
    assert listed == "term,count\npericardial effusion,1\npulmonary artery/enlarged,1\n"


@pytest.mark.parametrize("names", [OPEN_I, KAGGLE, tuple(name.upper() for name in KAGGLE)])
def test_images_are_found_under_each_of_their_names(root: Path, names: tuple[str, ...]) -> None:
    touch(root / "NLMCXR_png", names)
    touch(root, ["readme.png"])
    report = build(root, allow_missing_images=False)
    assert report.exclusions["file_without_row"] == 1
    assert report.exclusions["row_without_file"] == 0
    table = built(root, allow_missing_images=False)
    assert table.strings("path") == [f"NLMCXR_png/{name}" for name in names]
    assert table.strings("image_id") == list(IMAGES)


def test_images_in_two_forms_are_refused_until_one_is_chosen(root: Path) -> None:
    touch(root / "png", KAGGLE)
    touch(root / "png_too", OPEN_I)
    with pytest.raises(ManifestError, match=r"7 images are there in more than one form; .*--images SUBDIR \(png or"):
        build(root)
    assert built(root, images="png_too").num_rows == len(IMAGES)


def test_missing_images_are_left_out_and_listed(root: Path) -> None:
    touch(root, OPEN_I[:3])
    report = build(root, allow_missing_images=False)
    assert report.exclusions["row_without_file"] == 4


def test_no_source_of_views_is_said_plainly(root: Path) -> None:
    report = build(root)
    assert any(note.startswith("no view is known, frontal or lateral: add indiana_proj") for note in report.notes)
    assert column(built(root), "view") == [None] * 7


def test_views_by_the_projections(root: Path) -> None:
    write_projections(root)
    assert column(built(root), "view") == FRONTAL


def test_views_ages_and_sizes_by_the_table_of_headers(root: Path) -> None:
    write_header_table(root)
    table = built(root)
    assert column(table, "view") == ["PA", "Lateral", "Frontal", "Lateral", None, None, "AP"]
    assert column(table, "age_years") == [55.0, 55.0, None, None, 55.0, None, 56.0]
    assert column(table, "width") == [2320, 2320, 2500, 2500, 2500, None, 2500]
    assert column(table, "height") == [2828, 2828, 2048, 2048, 2048, None, 2048]
    assert table.metadata["counts"]["images_without_view"] == 2


def test_headers_that_begin_late_are_read(tmp_path: Path) -> None:
    names = [f"CXR{uid}_IM-0001-1001" for uid in range(1, 302)]
    reports = {f"{uid}.xml": xml(uid, [name]) for uid, name in enumerate(names, start=1)}
    root = write_archive(tmp_path / "release", archive(reports))
    line = f"{names[-1]},2828,2320,PA,,19550820,20110328,,\n"
    (root / "nlmcxr_dicom_metadata.csv").write_text(HEADER + line)
    table = built(root)
    assert table.column("view").null_count == table.column("age_years").null_count == 300
    assert table.column("age_years")[300].as_py() == 55


def test_the_projections_give_views_and_the_table_the_rest(root: Path) -> None:
    write_projections(root)
    write_header_table(root)
    table = built(root)
    assert column(table, "view") == FRONTAL
    assert column(table, "width")[0] == 2320
    assert column(built(root, options={"views": "table"}), "view")[0] == "PA"
    assert column(built(root, options={"views": "none"}), "view") == [None] * 7


def test_views_by_the_headers_of_dicom_images(root: Path) -> None:
    folder = root / "NLMCXR_dcm"
    write_dicom(
        folder / DICOM[0], ViewPosition="PA", PatientBirthDate="19550820", StudyDate="20110328", Rows=8, Columns=9
    )
    write_dicom(folder / DICOM[1], PatientOrientation=["P", "F"])
    write_dicom(folder / DICOM[2], PatientOrientation=["L", "F"])
    write_dicom(folder / DICOM[3], ViewPosition="LL")
    write_dicom(folder / DICOM[4], ViewPosition="")
    (folder / DICOM[5]).write_bytes(b"no DICOM")
    (folder / DICOM[6]).touch()
    report = build(root, allow_missing_images=False)
    assert "2 DICOM headers cannot be read: nothing is known of these images" in report.notes
    table = built(root, allow_missing_images=False)
    assert column(table, "view") == ["PA", "Lateral", "Frontal", "LL", None, None, None]
    assert [column(table, name)[0] for name in ("age_years", "width", "height")] == [55.0, 9, 8]


def test_without_pydicom_the_extra_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(root, DICOM)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ConfigError, match=r"install the extra `dicom` \(pip install 'cxr-nvum\[dicom\]'\)"):
        build(root)
    assert built(root, options={"views": "none"}).num_rows == len(IMAGES)


@pytest.mark.parametrize(
    ("views", "needs"), [("projections", "indiana_projections.csv"), ("table", "nlmcxr_dicom"), ("dicom", ".dcm")]
)
def test_views_from_what_is_not_there_are_refused(root: Path, views: str, needs: str) -> None:
    with pytest.raises(ConfigError, match=f"--option views={views}: .* has no .*{needs}"):
        build(root, options={"views": views})


def test_kaggles_tables_give_the_same_images_in_their_order(tmp_path: Path) -> None:
    root = write_kaggle(tmp_path / "release")
    touch(root / "images" / "images_normalized", KAGGLE)
    table = built(root, options={"mesh": "major", "labels": "terms"}, allow_missing_images=False)
    assert table.strings("image_id") == [IMAGES[1], IMAGES[0], *IMAGES[2:5], IMAGES[6]]
    assert column(table, "view") == ["Lateral", "Frontal", "Frontal", "Lateral", "Frontal", "Frontal"]
    assert column(table, "Support Devices") == [0, 0, 0, 0, 1, 0]
    assert table.metadata["exclusions"]["report_not_indexed"] == 1
    assert table.metadata["exclusions"]["report_without_image"] == 1


def test_kaggles_tables_have_no_automatic_terms_and_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no automatic MeSH terms; give --option mesh=major, or add NLMCXR"):
        build(write_kaggle(tmp_path / "release"))


def test_the_reports_are_preferred_to_kaggles_tables(tmp_path: Path) -> None:
    root = write_archive(write_kaggle(tmp_path / "release"))
    assert [source["file"] for source in built(root).metadata["sources"]] == [
        "indiana_projections.csv",
        "NLMCXR_reports.tgz",
    ]


def test_kaggles_reports_without_the_projections_are_refused(tmp_path: Path) -> None:
    root = write_kaggle(tmp_path / "release")
    (root / "indiana_projections.csv").unlink()
    with pytest.raises(ManifestError, match="which names the images, is not"):
        build(root, options={"mesh": "major"})


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("3,../../x.png,Frontal", r"filename: '../../x.png': expected one like 1_IM-0001-4001.dcm.png"),
        ("3,4_IM-0001-4001.dcm.png,Frontal", "4_IM-0001-4001.dcm.png: not of report 3"),
        ("3,3_IM-0001-4001.dcm.png,Oblique", "projection 'Oblique' is unknown"),
        ("3,,Frontal", "filename is blank"),
        ("1,1_IM-0001-3001.dcm.png,Frontal", "filename '1_IM-0001-3001.dcm.png' again"),
        ("x,3_IM-0001-4001.dcm.png,Frontal", "uid 'x': expected a whole number"),
    ],
)
def test_a_wrong_projection_is_refused_with_its_line(root: Path, line: str, problem: str) -> None:
    write_projections(root)
    with (root / "indiana_projections.csv").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ManifestError, match=f"line 9: {problem}"):
        build(root)


def test_a_projection_of_an_unknown_report_is_refused(tmp_path: Path) -> None:
    root = write_kaggle(tmp_path / "release")
    with (root / "indiana_projections.csv").open("a") as file:
        file.write("99,99_IM-0001-4001.dcm.png,Frontal\n")
    with pytest.raises(ManifestError, match=r"1 reports of indiana_projections\.csv are not in"):
        build(root, options={"mesh": "major"})


def test_models_of_other_datasets_leave_out_laterals_and_what_they_never_saw(root: Path) -> None:
    write_projections(root)
    table = built(root)
    selection = select(table, NVUM_NIH, "test")
    assert selection.left_out == {"view not frontal": 2, "Calcified Granuloma present": 1}
    assert [table.strings("image_id")[row] for row in selection.sample_index_n] == [
        IMAGES[0], IMAGES[2], IMAGES[5], IMAGES[6],
    ]  # fmt: skip
    assert selection.mask_NC.all()
    assert np.all(select(table, NVUM_CXP, "test").mask_NC)


@pytest.mark.parametrize("name", [*OPEN_I, *KAGGLE, *DICOM, *IMAGES])
def test_all_names_of_an_image_have_one_key(name: str) -> None:
    assert image_key(name) in {DICOM[i].removesuffix(".dcm") for i in range(len(DICOM))}


@pytest.mark.parametrize("name", ["readme.png", "IM-0001-3001.png", "1_IM-0001.gif", "1_2_IM-0001-3001.png", ""])
def test_other_names_have_none(name: str) -> None:
    assert image_key(name) is None


def test_the_word_of_the_view_goes_before_the_orientation() -> None:
    assert view_of("AP", ["A", "F"]) == "AP"
    assert view_of(" lateral ", ["L", "F"]) == "Lateral"
    assert view_of("OBLIQUE", ["L", "F"]) is None
    assert view_of("", ["P", "F"]) == "Lateral"
    assert view_of("", ["H", "F"]) is None
    assert view_of("", []) is None


@pytest.mark.parametrize(
    ("born", "studied", "years"),
    [("19550328", "20110328", 56), ("19550329", "20110328", 55), ("20120101", "20110328", None), ("", "20110328", None),
     ("1955", "20110328", None), ("17000101", "20110328", None)],
)  # fmt: skip
def test_an_age_is_in_completed_years(born: str, studied: str, years: int | None) -> None:
    assert age_of(born, studied) == years
