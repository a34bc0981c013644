"""Merging manifests: rows stay what they were, and what a source does not label is null, never negative."""

from pathlib import Path

import numpy as np
import pytest

from manifests.errors import ConfigError, ManifestError
from manifests.findings import FINDINGS
from manifests.label_spaces import CHEXPERT14, NIH14, LabelSpace
from manifests.merge import MergeReport, merge_manifests
from manifests.selection import class_prior, select
from manifests.stats import manifest_stats
from manifests.table import ManifestTable, labels_NC, read_manifest
from tests.factories import make_manifest
from tests.manifests.toy_manifest import NUM_TOY, TOY_LABELS, make_toy

NUM_NIH = 24


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    return [make_manifest(tmp_path, num_images=NUM_NIH), make_toy(tmp_path / "toy.parquet")]


def merged(inputs: list[Path]) -> ManifestTable:
    return read_manifest(merge(inputs).out)


def merge(inputs: list[Path]) -> MergeReport:
    return merge_manifests(inputs, inputs[0].parent / "out" / "merged.parquet")


def test_every_row_keeps_what_it_had_and_gets_the_next_number(inputs: list[Path]) -> None:
    table = merged(inputs)
    assert table.num_rows == NUM_NIH + NUM_TOY
    for first, path in ((0, inputs[0]), (NUM_NIH, inputs[1])):
        own = read_manifest(path)
        part = table.table.slice(first, own.num_rows)
        for name in own.table.column_names:
            assert part.column(name).to_pylist() == own.strings(name), name


def test_what_a_source_does_not_label_is_null(inputs: list[Path]) -> None:
    table = merged(inputs)
    assert table.findings == tuple(name for name in FINDINGS if name in (*NIH14.findings, "No Finding", *TOY_LABELS))
    values_NC, labelled_NC = labels_NC(table, ("Mass", "Pneumothorax", "Support Devices"))
    assert labelled_NC[:NUM_NIH].tolist() == [[True, True, False]] * NUM_NIH
    assert not labelled_NC[NUM_NIH:, 0].any()
    assert values_NC[NUM_NIH:, 1].tolist() == [1, 0, 0, -1, 0, 1]
    assert labelled_NC[NUM_NIH:, 1].tolist() == [True, True, False, True, True, True]


def test_training_masks_what_a_source_does_not_label(inputs: list[Path]) -> None:
    table = merged(inputs)
    space = LabelSpace(name="both", findings=("Mass", "Pneumothorax", "Support Devices"))
    selection = select(table, space, "train")
    own = {path: select(read_manifest(path), space, "train") for path in inputs}
    assert selection.num_selected == sum(part.num_selected for part in own.values())
    mask_nC = selection.mask_NC[selection.sample_index_n]
    is_nih_n = selection.sample_index_n < NUM_NIH
    assert mask_nC[is_nih_n].tolist() == [[True, True, False]] * int(is_nih_n.sum())
    assert mask_nC[~is_nih_n].tolist() == [[False, True, True]] * 2
    # A prior is counted over the rows that label the finding: NIH's do not dilute that of Support Devices.
    assert class_prior(selection)[2] == 1
    np.testing.assert_equal(class_prior(selection)[0], class_prior(own[inputs[0]])[0])


def test_blank_means_not_mentioned_only_where_the_source_labels_the_finding(inputs: list[Path]) -> None:
    table = merged(inputs)
    mask_NC = select(table, CHEXPERT14, None).mask_NC
    devices = CHEXPERT14.findings.index("Support Devices")
    assert not mask_NC[:NUM_NIH, devices].any()
    assert mask_NC[NUM_NIH:, devices].all()  # the null of row 4 is the toy's blank


def test_provenance_is_kept(inputs: list[Path]) -> None:
    metadata = merged(inputs).metadata
    assert metadata["dataset"] == "nih+toy"
    assert metadata["counts"] == {"images": NUM_NIH + NUM_TOY, "patients": NUM_NIH // 2 + 3}
    assert metadata["sources"] == [{"dataset": "toy", "file": "toy.csv", "sha256": "0" * 64}]
    assert metadata["exclusions"] == {"toy.too_small": 2}
    assert metadata["exclusion_meanings"] == {"toy.too_small": "images that are too small"}
    assert [(part["dataset"], part["rows"]) for part in metadata["merged"]] == [("nih", NUM_NIH), ("toy", NUM_TOY)]


def test_merging_in_steps_is_merging_at_once(inputs: list[Path], tmp_path: Path) -> None:
    third = make_toy(tmp_path / "third.parquet", dataset="third", labels={"Mass": [0, 1, 0, 1, 0, 1]})
    at_once = merge_manifests([*inputs, third], tmp_path / "at-once.parquet")
    in_steps = merge_manifests([merge(inputs).out, third], tmp_path / "in-steps.parquet")
    assert at_once.out.read_bytes() == in_steps.out.read_bytes()


def test_the_same_inputs_under_other_names_give_the_same_bytes(inputs: list[Path], tmp_path: Path) -> None:
    copies = [Path(path.rename(tmp_path / f"copy-{number}.parquet")) for number, path in enumerate(inputs)]
    first = merge_manifests(copies, tmp_path / "first.parquet")
    assert merge_manifests(copies, tmp_path / "second.parquet").out.read_bytes() == first.out.read_bytes()


def test_a_merged_manifest_has_statistics(inputs: list[Path]) -> None:
    found = manifest_stats(merged(inputs))
    assert found["dataset"] == "nih+toy"
    assert found["findings"]["Support Devices"]["all"] == {
        "positive": 2, "negative": 3, "uncertain": 0, "not_labelled": NUM_NIH + 1,
    }  # fmt: skip


def test_the_report_counts_rows_and_labels_a_source(inputs: list[Path]) -> None:
    report = merge(inputs)
    assert report.rows["toy"] == {"train": 2, "valid": 2, "test": 2}
    assert report.labelled["Support Devices"] == {"nih": 0, "toy": 5}
    assert report.labelled["Mass"] == {"nih": NUM_NIH, "toy": 0}


def refused(inputs: list[Path], message: str) -> None:
    out = inputs[0].parent / "out" / "merged.parquet"
    with pytest.raises(ManifestError, match=message):
        merge_manifests(inputs, out)
    assert not out.parent.exists()


def test_an_image_that_stands_twice_is_refused_with_both_places(inputs: list[Path], tmp_path: Path) -> None:
    again = make_toy(tmp_path / "again.parquet", image_id=["t9", "t1", "t8", "t7", "t6", "t5"])
    refused([*inputs, again], r"2 images stand twice.*\n  toy t1: \S+toy.parquet row 1 and \S+again.parquet row 1")


def test_the_same_image_id_in_two_datasets_is_two_images(inputs: list[Path], tmp_path: Path) -> None:
    other = make_toy(tmp_path / "other.parquet", dataset="other")
    assert merged([*inputs, other]).num_rows == NUM_NIH + 2 * NUM_TOY


def test_a_patient_in_two_splits_is_refused(inputs: list[Path], tmp_path: Path) -> None:
    other_images = [f"u{row}" for row in range(NUM_TOY)]
    other = make_toy(tmp_path / "other.parquet", image_id=other_images, split=["test"] * NUM_TOY)
    refused([*inputs, other], "2 patients are in two splits.*\n  patient toy:1: test and train")


def test_a_patient_without_its_dataset_is_refused(inputs: list[Path], tmp_path: Path) -> None:
    bare = make_toy(tmp_path / "bare.parquet", dataset="bare", patient_id=["1", "1", "2", "2", "3", "3"])
    refused([*inputs, bare], "6 rows with a patient_id that does not begin with its dataset")


def test_one_dataset_with_other_findings_is_refused(inputs: list[Path], tmp_path: Path) -> None:
    other = make_toy(
        tmp_path / "other.parquet",
        image_id=[f"u{row}" for row in range(NUM_TOY)],
        labels={"Pneumothorax": TOY_LABELS["Pneumothorax"]},
    )
    refused([*inputs, other], r"labels other findings of toy than the manifest before it \(Support Devices\)")


def test_other_schemas_are_refused(inputs: list[Path], tmp_path: Path) -> None:
    more = make_toy(tmp_path / "more.parquet", dataset="more", note=["x"] * NUM_TOY)
    refused([*inputs, more], "columns of another schema.*\n.*unknown column 'note'")
    wrong = make_toy(tmp_path / "wrong.parquet", dataset="wrong", width=["1"] * NUM_TOY)
    refused([*inputs, wrong], "width: is string, expected Int32")


@pytest.mark.parametrize(("picked", "message"), [([0], "two manifests or more"), ([0, 1, 0], "given twice")])
def test_one_manifest_or_the_same_twice_is_refused(inputs: list[Path], picked: list[int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        merge([inputs[number] for number in picked])


def test_a_file_of_another_kind_is_not_replaced(inputs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="exists and is no Parquet file"):
        merge_manifests(inputs, tmp_path / "notes.txt")
