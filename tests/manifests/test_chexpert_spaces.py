"""NVUM's selections of CheXpert, against the authors' steps one after another, written down plainly."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manifests.label_spaces import CHEXPERT14, NVUM_CXP, NVUM_CXP_COLUMNS, label_space
from manifests.selection import NO_AGE, NO_POSITIVE, NOT_FRONTAL, class_prior, select
from manifests.table import ManifestTable
from tests.manifests.tiny_chexpert import (
    LABELS,
    SMALL,
    TEST,
    TRAIN,
    VALID,
    built,
    cells,
    image,
    row,
    write_csv,
    write_release,
)

OUTPUTS = (
    "Cardiomegaly", "Edema", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Fracture", "No Finding",
)  # fmt: skip
CUT = tuple(name for name in LABELS if name not in OUTPUTS)

LINES = st.lists(
    st.builds(
        lambda side, age, view, values: row(
            "train/patient{}/study1/view1_" + side + ".jpg",
            age=age,
            view=view,
            **{name.replace(" ", "_"): value for name, value in zip(LABELS, values, strict=True)},
        ),
        st.sampled_from(["frontal", "frontal", "lateral"]),
        st.sampled_from([0, 18, 90]),
        st.sampled_from(["AP", "PA", "LL", "RL"]),
        st.tuples(*[st.sampled_from(["", "", "0.0", "1.0", "-1.0"])] * len(LABELS)),
    ),
    min_size=1,
    max_size=30,
).map(lambda lines: [line.replace("{}", f"{number:05d}", 1) for number, line in enumerate(lines, start=1)])


def the_authors_rows(lines: list[str], *, drop_rows: bool) -> dict[str, list[str]]:
    """Step -> paths that are left after it."""
    rows = [line for line in cells(lines) if line["Frontal/Lateral"] == "Frontal" and line["Age"] != "0"]
    steps = {"frontal, age not 0": rows}
    values = [{name: int(line[name] == "1.0") for name in LABELS} for line in rows]  # -1 and blank to 0
    kept = [number for number, found in enumerate(values) if not drop_rows or not any(found[name] for name in CUT)]
    steps["cut"] = [rows[number] for number in kept]
    steps["with a label"] = [rows[number] for number in kept if any(values[number][name] for name in OUTPUTS)]
    return {step: [line["Path"].removeprefix(f"{SMALL}/") for line in left] for step, left in steps.items()}


def manifest_of(lines: list[str]) -> ManifestTable:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "release"
        write_csv(root / "train.csv", lines)
        return built(root, allow_missing_images=True)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(LINES)
def test_both_variants_are_the_authors_steps(lines: list[str]) -> None:
    table = manifest_of(lines)
    image_ids = table.strings("image_id")
    for space, drop_rows in ((NVUM_CXP, True), (NVUM_CXP_COLUMNS, False)):
        steps = the_authors_rows(lines, drop_rows=drop_rows)
        selection = select(table, space, None)
        assert [image_ids[index] for index in selection.sample_index_n] == steps["with a label"]
        others = {NOT_FRONTAL, NO_AGE, NO_POSITIVE}
        num_cut = sum(count for reason, count in selection.left_out.items() if reason not in others)
        frontal = len(lines) - selection.left_out.get(NOT_FRONTAL, 0) - selection.left_out.get(NO_AGE, 0)
        assert frontal == len(steps["frontal, age not 0"])
        assert frontal - num_cut == len(steps["cut"])


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(LINES)
def test_u_zeros_makes_blank_and_uncertain_negative_and_masks_nothing(lines: list[str]) -> None:
    selection = select(manifest_of(lines), NVUM_CXP, None)
    expected = [[float(line[name] == "1.0") for name in OUTPUTS] for line in cells(lines)]
    assert selection.targets_NC.tolist() == expected
    read = [any(line[name] for name in LABELS) for line in cells(lines)]
    assert selection.mask_NC.tolist() == [[known] * len(OUTPUTS) for known in read]


def test_views_called_frontal_stay_and_others_go(tmp_path: Path) -> None:
    table = built(write_release(tmp_path / "release"))
    selection = select(table, NVUM_CXP_COLUMNS, None)
    kept = [table.strings("image_id")[index] for index in selection.sample_index_n]
    assert image(4) in kept  # LL
    assert image(3) not in kept  # age 0
    assert selection.left_out == {NOT_FRONTAL: 1, NO_AGE: 1, NO_POSITIVE: 2}


def test_the_radiologists_test_labels_have_no_age_and_stay(tmp_path: Path) -> None:
    table = built(write_release(tmp_path / "release", test=TEST))
    selection = select(table, NVUM_CXP, "test")
    assert [table.strings("image_id")[index] for index in selection.sample_index_n] == [image(64741, part="test")]


POLICIES = {
    "zeros": (0.0, True),
    "ones": (1.0, True),
    "ignore": (0.0, False),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_decide_over_uncertain_labels_only(tmp_path: Path, policy: str) -> None:
    table = built(write_release(tmp_path / "release"), valid_fraction=0)
    selection = select(table, label_space(f"chexpert14:{policy}"), "train")
    edema = CHEXPERT14.findings.index("Edema")
    assert (selection.targets_NC[1, edema], selection.mask_NC[1, edema]) == POLICIES[policy]
    uncertain_NC = np.zeros(selection.mask_NC.shape, np.bool_)
    for number, line in enumerate(cells([*TRAIN, *VALID])):
        uncertain_NC[number] = [line[name] == "-1.0" for name in LABELS]
    assert selection.mask_NC[~uncertain_NC].all()
    zeros = select(table, label_space("chexpert14:zeros"), "train")
    assert (selection.targets_NC == zeros.targets_NC)[~uncertain_NC].all()


def test_smooth_draws_each_uncertain_label_once_and_for_all(tmp_path: Path) -> None:
    lines = [row(image(patient), Edema="-1.0", Fracture="1.0") for patient in range(1, 401)]
    root = tmp_path / "release"
    write_csv(root / "train.csv", lines)
    table = built(root, allow_missing_images=True)
    space = label_space("chexpert14:smooth")
    selection = select(table, space, "train")
    column = space.findings.index("Edema")
    drawn = selection.targets_NC[selection.sample_index_n, column]
    assert ((drawn >= 0.55) & (drawn < 0.85)).all()
    assert abs(float(drawn.mean()) - 0.70) < 0.02
    assert len(set(drawn.tolist())) > 300
    assert (selection.targets_NC[:, space.findings.index("Fracture")] == 1).all()
    # Validation is measured against what the source says: an uncertain label is masked there.
    valid = select(table, space, "valid")
    assert not valid.mask_NC[valid.sample_index_n, column].any()
    # The rows around an image do not matter.
    write_csv(root / "train.csv", lines[::-2])
    fewer = built(root, allow_missing_images=True)
    images = dict(zip(table.strings("image_id"), selection.targets_NC[:, column].tolist(), strict=True))
    for name, value in zip(fewer.strings("image_id"), select(fewer, space, None).targets_NC[:, column], strict=True):
        assert images[name] == value
    assert 0.5 < class_prior(selection, "plain")[column] < 0.85


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(LINES, st.sampled_from(["nvum-cxp", "nvum-cxp-columns", "chexpert14"]), st.data())
def test_policies_commute_with_the_order_of_rows(lines: list[str], name: str, data: st.DataObject) -> None:
    policy = data.draw(st.sampled_from(["zeros", "ones", "ignore", "smooth"]))
    space = label_space(f"{name}:{policy}")
    shuffled = data.draw(st.permutations(lines))

    def targets(order: list[str]) -> dict[str, tuple[list[float], list[bool], bool]]:
        table = manifest_of(order)
        selection = select(table, space, "train")
        chosen = set(selection.sample_index_n.tolist())
        rows = zip(selection.targets_NC.tolist(), selection.mask_NC.tolist(), strict=True)
        names = enumerate(table.strings("image_id"))
        return {str(name): (*row, number in chosen) for (number, name), row in zip(names, rows, strict=True)}

    assert targets(lines) == targets(shuffled)
