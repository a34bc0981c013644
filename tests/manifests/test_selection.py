"""Selection: which rows, which targets, which prior; against a slow oracle that looks at one row at a time."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import ConfigError, ManifestError
from manifests.findings import NO_FINDING
from manifests.label_spaces import NVUM_NIH, LabelSpace, RowRules
from manifests.schema import SPLITS
from manifests.selection import NO_LABEL, NO_PIXELS, NO_POSITIVE, NOT_FRONTAL, Selection, class_prior, select
from manifests.table import ManifestTable
from tests.manifests.tiny_release import built, write_release

FINDINGS = ("Mass", "Nodule", "Hernia", NO_FINDING)


def table_of(rows: list[dict[str, Any]], findings: tuple[str, ...] = FINDINGS) -> ManifestTable:
    columns = {"split": pa.array([row["split"] for row in rows], pa.large_string())}
    columns |= {name: pa.array([row[name] for row in rows], pa.int8()) for name in findings}
    return ManifestTable(table=pa.table(columns), metadata={"dataset": "nih"})


def row(split: str = "train", no_finding: int = 0, **labels: int | None) -> dict[str, Any]:
    return {"split": split, **dict.fromkeys(FINDINGS, 0), NO_FINDING: no_finding, **labels}


ROWS = st.lists(
    st.fixed_dictionaries(
        {"split": st.sampled_from(SPLITS)} | dict.fromkeys(FINDINGS, st.sampled_from([0, 1, -1, None]))
    ),
    min_size=1,
    max_size=20,
)
SPACES = st.builds(
    LabelSpace,
    name=st.just("drawn"),
    findings=st.lists(st.sampled_from(FINDINGS), min_size=1, unique=True).map(tuple),
    leaves_out_rows_with=st.lists(st.sampled_from(FINDINGS), max_size=2, unique=True).map(tuple),
    uncertainty=st.sampled_from(["zeros", "ones", "ignore"]),
    blank=st.sampled_from(["masked", "zeros"]),
    drops_rows_without_positive=st.booleans(),
)


def targets_of(labels: dict[str, Any], space: LabelSpace) -> list[int | None]:
    """The targets of one row under the policies; None is masked."""
    blank = 0 if space.blank == "zeros" and any(labels[name] is not None for name in FINDINGS) else None
    uncertain = {"zeros": 0, "ones": 1, "ignore": None}[space.uncertainty]
    return [{None: blank, -1: uncertain}.get(labels[name], labels[name]) for name in space.findings]


@given(ROWS, SPACES, st.sampled_from([*SPLITS, None]), st.data())
def test_selection_is_what_a_look_at_each_row_says(
    rows: list[dict[str, Any]], space: LabelSpace, split: str | None, data: st.DataObject
) -> None:
    rejected = data.draw(st.lists(st.integers(0, len(rows) - 1), unique=True))
    selection = select(table_of(rows), space, split, rejected)
    chosen: list[int] = []
    left_out: Counter[str] = Counter()
    for number, labels in enumerate(rows):
        targets = targets_of(labels, space)
        assert selection.mask_NC[number].tolist() == [value is not None for value in targets]
        assert selection.targets_NC[number].tolist() == [value or 0 for value in targets]
        if split not in (None, labels["split"]):
            continue
        unwanted = [f"{name} present" for name in space.leaves_out_rows_with if labels[name] == 1]
        reasons = [*([NO_PIXELS] if number in rejected else []), *unwanted]
        if space.drops_rows_without_positive and all(labels[name] != 1 for name in space.findings):
            reasons.append(NO_POSITIVE)
        reasons += [NO_LABEL] if all(value is None for value in targets) else []
        if reasons:
            left_out[reasons[0]] += 1
        else:
            chosen.append(number)
    assert selection.sample_index_n.tolist() == chosen
    assert selection.left_out == left_out
    assert (selection.num_rows, selection.num_selected) == (len(rows), len(chosen))
    assert selection.sample_index_n.dtype == np.int64
    assert selection.targets_NC.dtype == np.float32


@given(ROWS, SPACES)
def test_splits_share_no_row_and_together_are_all(rows: list[dict[str, Any]], space: LabelSpace) -> None:
    table = table_of(rows)
    parts = [index for split in SPLITS for index in select(table, space, split).sample_index_n.tolist()]
    assert sorted(parts) == select(table, space, None).sample_index_n.tolist()


@given(ROWS, SPACES)
def test_a_policy_applied_twice_changes_nothing(rows: list[dict[str, Any]], space: LabelSpace) -> None:
    once = select(table_of(rows), space, None)
    labels: list[dict[str, Any]] = []
    for row, targets, mask in zip(rows, once.targets_NC.tolist(), once.mask_NC.tolist(), strict=True):
        decided = zip(space.findings, targets, mask, strict=True)
        labels.append(row | {name: int(value) if known else None for name, value, known in decided})
    twice = select(table_of(labels), space, None)
    # Where blanks are zeros, what the policy masked would come back as zero: masks are compared without that.
    if space.blank == "masked" or space.uncertainty != "ignore":
        assert (twice.mask_NC == once.mask_NC).all()
    assert (twice.targets_NC == once.targets_NC).all()


@given(ROWS, SPACES)
def test_priors_are_probabilities_above_the_floor(rows: list[dict[str, Any]], space: LabelSpace) -> None:
    selection = select(table_of(rows), space, None)
    if selection.num_selected:
        for form in ("plain", "authors"):
            prior = class_prior(selection, form)
            assert prior.shape == (len(space.findings),)
            assert prior.dtype == np.float64
            assert (prior >= 1 / (selection.num_selected + 1)).all()
            assert (prior <= 1).all()


SPACE = LabelSpace(name="two", findings=("Mass", NO_FINDING, "Hernia"))


def selection_of(*rows: dict[str, Any], space: LabelSpace = SPACE) -> Selection:
    return select(table_of(list(rows)), space, "train")


def test_the_plain_prior_counts_unmasked_entries_of_selected_rows() -> None:
    selection = selection_of(
        row(Mass=1), row(Mass=None), row(Mass=0), row(no_finding=1), row("test", Mass=1), row("valid", Mass=1)
    )
    assert class_prior(selection, "plain").tolist() == [1 / 3, 1 / 4, 1 / 5]


def test_the_authors_prior_of_a_finding_is_among_rows_with_one() -> None:
    selection = selection_of(row(Mass=1), row(Mass=1), row(), row(no_finding=1))
    assert class_prior(selection).tolist() == [2 / 4 * (1 - 1 / 4), 1 / 4, 1 / 5]


def test_without_no_finding_both_priors_are_one() -> None:
    selection = selection_of(row(Mass=1), row(), space=LabelSpace(name="x", findings=("Mass", "Hernia")))
    assert class_prior(selection, "authors").tolist() == class_prior(selection, "plain").tolist() == [1 / 2, 1 / 3]


def test_the_floor_keeps_logarithms_finite() -> None:
    prior = class_prior(selection_of(row(), row(), row()))
    assert prior.tolist() == [1 / 4] * 3
    assert all(map(math.isfinite, np.log(prior)))


def test_a_prior_of_no_rows_is_refused() -> None:
    with pytest.raises(ManifestError, match="label space two: no row of split train is selected"):
        class_prior(selection_of(row("test")))


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"split 'dev': unknown \(there are: train, valid, test\)"):
        select(table_of([row()]), SPACE, "dev")


def test_rows_with_consolidation_are_left_out_of_the_benchmark(tmp_path: Path) -> None:
    table = built(write_release(tmp_path / "release"), valid_fraction=0)
    selection = select(table, NVUM_NIH, "test")
    assert selection.left_out == {"Consolidation present": 1}
    assert selection.sample_index_n.tolist() == [4]


def merged(labels: dict[str, dict[str, int | None]], space: LabelSpace) -> Selection:
    """Select from one row a dataset; a dataset labels the findings that its row has, null or not."""
    names = sorted({name for row in labels.values() for name in row})
    columns: dict[str, Any] = {
        "dataset": list(labels),
        "image_id": list(labels),
        "split": ["train"] * len(labels),
        "view": ["LL"] * len(labels),
        "age_years": pa.nulls(len(labels), pa.float32()),
    }
    columns |= {name: pa.array([row.get(name) for row in labels.values()], pa.int8()) for name in names}
    metadata = {"dataset": "merged", "labelled": {dataset: list(row) for dataset, row in labels.items()}}
    return select(ManifestTable(table=pa.table(columns), metadata=metadata), space, "train")


def test_a_blank_is_zero_only_where_the_rows_own_dataset_labels_the_finding() -> None:
    space = LabelSpace(name="both", findings=("Mass", "Fracture"), blank="zeros")
    labels: dict[str, dict[str, int | None]] = {
        "nih": {"Mass": None, "Hernia": 0},
        "chexpert": {"Mass": 1, "Fracture": None},
    }
    selection = merged(labels, space)
    assert selection.mask_NC.tolist() == [[True, False], [True, True]]
    assert selection.targets_NC.tolist() == [[0, 0], [1, 0]]


def test_a_row_without_any_label_is_masked_whatever_becomes_of_blanks() -> None:
    space = LabelSpace(name="both", findings=("Mass", "Fracture"), blank="zeros")
    selection = merged({"chexpert": {"Mass": None, "Fracture": None}}, space)
    assert not selection.mask_NC.any()
    assert selection.left_out == {NO_LABEL: 1}


def test_each_dataset_has_rules_of_its_own() -> None:
    space = LabelSpace(
        name="own",
        findings=("Mass",),
        leaves_out_rows_with=("Hernia",),
        on_dataset={"openi": RowRules(leaves_out_rows_with=("Mass",)), "mimic": RowRules(frontal_only=True)},
    )
    labels: dict[str, int | None] = {"Mass": 1, "Hernia": 1}
    selection = merged(dict.fromkeys(("nih", "openi", "mimic", "chexpert"), labels), space)
    assert selection.num_selected == 0
    assert selection.left_out == {"Hernia present": 2, "Mass present": 1, NOT_FRONTAL: 1}


@pytest.mark.parametrize(("dataset", "num_selected"), [("chexpert", 1), ("mimic", 0), ("padchest", 0)])
def test_ll_is_frontal_in_chexpert_alone(dataset: str, num_selected: int) -> None:
    space = LabelSpace(name="frontal", findings=("Mass",), frontal_only=True)
    assert merged({dataset: {"Mass": 1}}, space).num_selected == num_selected


def test_a_dataset_named_by_no_rule_has_the_label_spaces_own() -> None:
    assert NVUM_NIH.rules_on("nih") is NVUM_NIH
    assert NVUM_NIH.rules_on("openi").leaves_out_rows_with == (
        "Fracture", "Lung Opacity", "Lung Lesion", "Calcified Granuloma", "Granuloma",
    )  # fmt: skip
