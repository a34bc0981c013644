"""All 3,955 reports of OpenI, against the counts of NVUM's benchmark and of the release itself."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from manifests.label_spaces import NVUM_NIH
from manifests.selection import select
from manifests.table import ManifestTable
from tests.manifests.tiny_openi import build, built

ARCHIVE = "NLMCXR_reports.tgz"
HEADERS = "nlmcxr_dicom_metadata.csv.gz"

# Reports with an image that remain for a model of ChestX-ray14, by substrings of the automatic terms.
AFTER_NIH_CUT = {
    "Atelectasis": 149, "Cardiomegaly": 189, "Effusion": 113, "Infiltration": 42, "Mass": 2, "Nodule": 48,
    "Pneumonia": 42, "Pneumothorax": 14, "Edema": 34, "Emphysema": 65, "Fibrosis": 14, "Pleural_Thickening": 20,
    "Hernia": 34, "No Finding": 2_429,
}  # fmt: skip


def link(root: Path, real_data: Path, *files: str) -> Path:
    root.mkdir()
    for file in files:
        (root / file).symlink_to(real_data / "openi" / file)
    return root


@pytest.fixture(scope="module")
def reports_alone(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> ManifestTable:
    """The manifest of the reports, without any source of views."""
    return built(link(tmp_path_factory.mktemp("reports") / "openi", real_data, ARCHIVE))


@pytest.fixture(scope="module")
def with_headers(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> ManifestTable:
    """The manifest of the reports, with TorchXRayVision's table beside them."""
    return built(link(tmp_path_factory.mktemp("headers") / "openi", real_data, ARCHIVE, HEADERS))


def reports_of(table: ManifestTable, rows: npt.NDArray[np.int64]) -> dict[str, int]:
    """Return each report -> one of its rows."""
    patients = table.strings("patient_id")
    return {patients[row]: row for row in rows.tolist()}


def positives(table: ManifestTable, rows: npt.NDArray[np.int64]) -> dict[str, int]:
    """Return output -> reports where it is present."""
    selection = select(table, NVUM_NIH, "test")
    one_a_report = list(reports_of(table, rows).values())
    sums = selection.targets_NC[one_a_report].sum(axis=0).astype(int).tolist()
    return dict(zip(NVUM_NIH.findings, sums, strict=True))


def test_reports_and_images_are_those_of_the_release(reports_alone: ManifestTable) -> None:
    assert reports_alone.num_rows == 7_470
    assert reports_alone.metadata["counts"]["reports"] == 3_955
    assert reports_alone.metadata["exclusions"]["report_without_image"] == 104
    assert len(set(reports_alone.strings("patient_id"))) == 3_955 - 104
    assert set(reports_alone.strings("split")) == {"test"}


def test_paper_matching_gives_the_counts_of_the_benchmark(reports_alone: ManifestTable) -> None:
    rows = select(reports_alone, NVUM_NIH, "test").sample_index_n
    assert len(reports_of(reports_alone, rows)) == 3_005
    assert positives(reports_alone, rows) == AFTER_NIH_CUT


def test_whole_terms_lose_the_traps_and_win_what_substrings_miss(
    reports_alone: ManifestTable, real_data: Path, tmp_path: Path
) -> None:
    exact = built(link(tmp_path / "openi", real_data, ARCHIVE), options={"labels": "terms"})
    reports = np.array(exact.strings("patient_id"))
    lost, won = {}, {}
    for finding in NVUM_NIH.findings:
        by_paper = np.asarray(reports_alone.column(finding)) == 1
        by_terms = np.asarray(exact.column(finding)) == 1
        lost[finding] = len(set(reports[by_paper & ~by_terms]))
        won[finding] = len(set(reports[by_terms & ~by_paper]))
    # Of 12 reports with a pericardial effusion three have a pleural one too.
    traps = {"Effusion": 9, "Emphysema": 3, "Fibrosis": 4, "Mass": 3, "No Finding": 3}
    assert {finding: count for finding, count in lost.items() if count} == traps
    # Enlarged heart; pleural fluid; the plural fibroses.
    missed = {"Cardiomegaly": 5, "Effusion": 4, "Fibrosis": 4, "No Finding": 5}
    assert {finding: count for finding, count in won.items() if count} == missed


def test_views_come_from_the_table_of_headers(with_headers: ManifestTable) -> None:
    views = with_headers.column("view").to_pylist()
    assert {view: views.count(view) for view in set(views)} == {
        "PA": 3_593, "AP": 423, "LL": 717, "RL": 29, "Lateral": 121, None: 2_587,
    }  # fmt: skip
    assert with_headers.column("age_years").null_count == 1


def test_reports_with_lateral_images_alone_go_with_their_views(with_headers: ManifestTable) -> None:
    selection = select(with_headers, NVUM_NIH, "test")
    assert selection.left_out["view not frontal"] == 717 + 29 + 121
    assert len(reports_of(with_headers, selection.sample_index_n)) == 2_977


def test_a_build_of_all_reports_explains_itself(real_data: Path, tmp_path: Path) -> None:
    report = build(link(tmp_path / "openi", real_data, ARCHIVE, HEADERS))
    assert "the view of 2,587 of 7,470 images is not known: it is null" in report.notes
    assert report.num_unmapped == 473
    assert set(report.side_tables) == {"left-out", "unmapped-terms"}


def test_major_terms_leave_out_reports_that_nobody_indexed(real_data: Path, tmp_path: Path) -> None:
    root = link(tmp_path / "openi", real_data, ARCHIVE)
    table = built(root, options={"labels": "terms", "mesh": "major"})
    assert table.num_rows + table.metadata["exclusions"]["report_not_indexed"] == 7_470
    assert {"Consolidation", "Support Devices", "Scoliosis"} <= table.labelled("openi")
