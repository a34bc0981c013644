"""The page of a manifest: one file that needs nothing else, true to the counts that it draws."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from manifests.expert import against_expert, read_expert_file
from manifests.left_out import FILE_WITHOUT_ROW, MEANING, UNREADABLE_NAME
from manifests.merge import merge_manifests
from manifests.stats import manifest_stats
from manifests.stats_figures import co_occurrence_map, histogram, label_kinds, prevalence
from manifests.stats_flow import FILE_RULES, flow_diagram, flows
from manifests.stats_page import stats_page
from manifests.table import read_manifest
from tests.factories import make_manifest
from tests.manifests.expert_file import write_expert
from tests.manifests.tiny_release import NAMES, build, built, row, write_labels, write_release
from tests.manifests.toy_manifest import make_toy


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Any]:
    """Six label rows, one of them without a file, and a file without a row."""
    root = write_release(tmp_path / "release")
    (root / "images" / NAMES[5]).rename(root / "images" / "other.png")
    return manifest_stats(read_manifest(build(root, valid_fraction=0).out))


@pytest.fixture
def merged(tmp_path: Path) -> dict[str, Any]:
    inputs = [make_manifest(tmp_path), make_toy(tmp_path / "toy.parquet")]
    return manifest_stats(read_manifest(merge_manifests(inputs, tmp_path / "both.parquet").out))


def titles(svg: str) -> list[str]:
    """What a browser shows under the pointer, over each shape of a figure in turn."""
    root = ElementTree.fromstring(svg)
    return [element.text or "" for element in root.iter() if element.tag == "title"]


def words(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def test_the_page_needs_nothing_else(found: dict[str, Any]) -> None:
    page = stats_page(found)
    assert not re.search(r"<script|<link|<img|url\(|https?:|@import", page)
    assert page.count("<html") == page.count("</html>") == 1
    sections = re.findall(r"<h2>(.*?)</h2>", page)
    assert sections == [
        "From label rows to images", "Splits", "Prevalence", "Findings that occur together", "Ages and views",
        "What is not labelled", "What label spaces select", "Sources",
    ]  # fmt: skip


def test_the_same_statistics_give_the_same_page(found: dict[str, Any]) -> None:
    assert stats_page(found) == stats_page(found)


def test_names_of_a_source_are_no_markup(found: dict[str, Any]) -> None:
    page = stats_page({**found, "sources": [{"file": "<b>&.csv", "sha256": "0"}]})
    assert "&lt;b&gt;&amp;.csv" in page
    assert "<b>&" not in page


def test_the_flow_leads_from_label_rows_to_kept_rows(found: dict[str, Any]) -> None:
    (flow,) = found["flow"]
    assert flow == {"source": "nih", "label_rows": 6, "left_out": {MEANING["row_without_file"]: 1}, "kept": 5}
    assert flow["label_rows"] - sum(flow["left_out"].values()) == flow["kept"]
    drawn = words(flow_diagram(found["flow"], {"train": 3, "valid": 0, "test": 2}))
    assert drawn == ["nih", "6 label rows", "1 label rows without a file", "5 rows", "train: 3", "valid: 0", "test: 2"]
    assert "Also left out: 1 files without a label row." in stats_page(found)


def test_files_are_no_label_rows() -> None:
    assert set(FILE_RULES) == {FILE_WITHOUT_ROW, UNREADABLE_NAME}


def test_each_source_of_a_merged_manifest_has_its_flow(merged: dict[str, Any]) -> None:
    assert [(flow["source"], flow["kept"]) for flow in merged["flow"]] == [("nih", 24), ("toy", 6)]
    assert merged["flow"][1]["left_out"] == {"images that are too small": 2}
    drawn = words(flow_diagram(merged["flow"], {"train": 30}))
    assert [text for text in drawn if "rows" in text][-1] == "30 rows in all"
    assert "2 images that are too small" in drawn


def test_a_manifest_that_tells_no_rules_has_a_flow() -> None:
    assert flows({"dataset": "x"}, 3) == [{"source": "x", "label_rows": None, "left_out": {}, "kept": 3}]


def test_prevalence_is_drawn_where_there_are_positives(found: dict[str, Any]) -> None:
    drawn = titles(prevalence(found))
    assert "Cardiomegaly, train: 2 of 3 (66.67%)" in drawn
    assert "Mass, test: 1 of 2 (50.00%)" in drawn
    assert not [text for text in drawn if "Hernia" in text or "valid" in text]


def test_prevalence_is_taken_of_the_rows_that_label_the_finding(merged: dict[str, Any]) -> None:
    assert "Support Devices, train: 2 of 2 (100.00%)" in titles(prevalence(merged))


def test_every_pair_is_drawn_with_its_share(found: dict[str, Any]) -> None:
    drawn = titles(co_occurrence_map(found))
    assert "1 of 2 images with Cardiomegaly also bear Emphysema (50.0%)" in drawn
    assert "1 of 1 images with Emphysema also bear Cardiomegaly (100.0%)" in drawn
    present = {"Cardiomegaly", "Emphysema", "No Finding", "Consolidation", "Mass", "Pleural_Thickening"}
    assert len(drawn) == len(present) ** 2


def test_bars_are_shares_of_a_split(found: dict[str, Any]) -> None:
    drawn = titles(histogram(found, "views", label="views"))
    assert drawn == [
        "AP, train: 1 rows (33.3%)",
        "AP, test: 0 rows (0.0%)",
        "PA, train: 2 rows (66.7%)",
        "PA, test: 2 rows (100.0%)",
    ]
    assert words(histogram(found, "age_decades", label="ages"))[-6:] == ["0", "10", "20", "30", "40", "50"]


def test_what_is_not_labelled_is_told_from_what_is_absent(merged: dict[str, Any]) -> None:
    drawn = titles(label_kinds(merged))
    assert "Support Devices, negative: 3 rows (10.0%)" in drawn
    assert "Support Devices, not labelled: 25 rows (83.3%)" in drawn
    assert "Pneumothorax, uncertain: 1 rows (3.3%)" in drawn


def test_the_experts_have_their_section(tmp_path: Path) -> None:
    table = built(write_release(tmp_path / "release"), valid_fraction=0)
    agreement = against_expert(table, read_expert_file(write_expert(tmp_path / "expert.csv")))
    page = stats_page({**manifest_stats(table), "against_expert": agreement})
    assert "<h2>Against the experts</h2>" in page
    assert "<td>Nodule or mass, test</td><td>2</td><td>100.0%</td><td>50.0%</td>" in page
    assert "<td>Fracture, test</td><td>not labelled here</td>" in page
    assert "2 images of the experts&#x27; val set are in this manifest&#x27;s train" in page


def test_a_manifest_without_ages_or_positives_has_a_page(tmp_path: Path) -> None:
    root = tmp_path / "release"
    write_labels(root, [row("00000001_000.png", age="", rest=",,,")])
    page = stats_page(manifest_stats(built(root, allow_missing_images=True)))
    assert "not given" in page
