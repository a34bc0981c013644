"""VinDr-CXR: the majority of three readers in training, their votes beside the manifest, a consensus in test."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.build import BuildConfig, BuildReport, build_manifest
from manifests.datasets.vindr import VOCABULARY, count_votes, majority
from manifests.errors import ManifestError
from manifests.table import ManifestTable, read_manifest

WORDS = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema",
    "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift",
    "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture",
    "Other lesion", "COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases", "No finding",
)  # fmt: skip
ONE, TWO, THREE = (
    "000434271f63a053c4128a0ba6352c7f",
    "00053190460d56c53cc3e57321387478",
    "0005e8e3701dfb1dd93d53e2ff537b6e",
)
TESTED = "002a34c58c5b758217ed1f584ccbcfe9"

READ = (
    (ONE, "R1", {"No finding"}), (ONE, "R2", {"No finding"}), (ONE, "R3", {"Nodule/Mass"}),
    (TWO, "R8", {"Pleural effusion", "Cardiomegaly"}), (TWO, "R9", {"Pleural effusion"}),
    (TWO, "R10", {"Cardiomegaly"}),
    (THREE, "R1", {"ILD"}), (THREE, "R2", {"COPD"}), (THREE, "R3", {"Other diseases"}),
)  # fmt: skip


def cells(seen: Iterable[str], words: Iterable[str] = WORDS) -> list[str]:
    return [str(int(word in set(seen))) for word in words]


def write_release(root: Path, read: Iterable[tuple[str, str, Iterable[str]]] = READ, *, ending: str = ".dicom") -> Path:
    """Write both label files in the form of the release, and empty files."""
    (root / "annotations").mkdir(parents=True)
    lines = [",".join(["image_id", "rad_id", *WORDS])]
    lines += [",".join([image, reader, *cells(seen)]) for image, reader, seen in read]
    (root / "annotations" / "image_labels_train.csv").write_text("\n".join(lines) + "\n")
    test_words = [word.replace("Other diseases", "Other disease") for word in WORDS]
    lines = [
        ",".join(["image_id", *test_words]),
        ",".join([TESTED, *cells({"Nodule/Mass", "Other disease"}, test_words)]),
    ]
    (root / "annotations" / "image_labels_test.csv").write_text("\n".join(lines) + "\n")
    for part, names in (("train", (ONE, TWO, THREE)), ("test", (TESTED,))):
        (root / part).mkdir()
        for name in names:
            (root / part / f"{name}{ending}").touch()
    return root


def build(root: Path, **options: Any) -> BuildReport:
    out = root.parent / "manifest" / "vindr.parquet"
    return build_manifest(BuildConfig(dataset="vindr", root=root, out=out, **options))


def built(root: Path, **options: Any) -> ManifestTable:
    return read_manifest(build(root, **options).out)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


def present(table: ManifestTable, row: int) -> set[str]:
    return {name for name in table.findings if table.column(name)[row].as_py() == 1}


def test_one_row_an_image_with_the_majority_of_its_readers(release: Path) -> None:
    table = built(release)
    assert table.strings("image_id") == [ONE, TWO, THREE, TESTED]
    assert [present(table, row) for row in range(4)] == [
        {"No Finding"}, {"Effusion", "Cardiomegaly"}, set(), {"Lung Lesion", "Other Disease"},
    ]  # fmt: skip
    assert table.column("Lung Lesion").to_pylist() == [0, 0, 0, 1]


def test_the_votes_are_kept_beside_the_manifest(release: Path) -> None:
    votes = pl.read_csv(build(release).side_tables["votes"])
    assert votes["image_id"].to_list() == [ONE, TWO, THREE]
    assert votes["readers"].to_list() == [3, 3, 3]
    assert votes["No Finding"].to_list() == [2, 0, 0]
    assert votes["Lung Lesion"].to_list() == [1, 0, 0]
    assert votes["Effusion"].to_list() == [0, 2, 0]
    assert len(votes.columns) == 2 + 28


def test_readers_are_counted(release: Path) -> None:
    counts = built(release).metadata["counts"]
    assert counts["images_without_three_readers"] == 0
    assert counts["images_readers_disagree_on"] == 3
    assert counts["images_no_majority_names_anything"] == 1


def test_the_official_test_is_kept_and_every_image_is_a_patient(release: Path) -> None:
    table = built(release)
    assert table.in_split("test").tolist() == [False, False, False, True]
    assert table.strings("patient_id") == [f"vindr:{name}" for name in (ONE, TWO, THREE, TESTED)]
    assert table.strings("path")[0] == f"train/{ONE}.dicom"
    assert table.strings("view") == ["PA"] * 4


def test_nodule_or_mass_is_neither_nodule_nor_mass(release: Path) -> None:
    assert not {"Nodule", "Mass"} & set(built(release).findings)


@pytest.mark.parametrize("ending", [".dcm", ".png", ".PNG"])
def test_conversions_of_the_same_names_are_found(tmp_path: Path, ending: str) -> None:
    root = write_release(tmp_path / "release", ending=ending)
    assert built(root).strings("path")[3] == f"test/{TESTED}{ending}"


def test_blank_answers_are_no_votes_and_half_is_uncertain(release: Path) -> None:
    file = release / "annotations" / "image_labels_train.csv"
    header, *lines = file.read_text().splitlines()
    blank = [line.rsplit(",", 1)[0] + "," for line in lines[:3]]  # nobody answers whether there is no finding
    two_readers = [*lines[3:5], *lines[6:]]  # of the second image only R8 and R9: one of them saw cardiomegaly
    file.write_text("\n".join([header, *blank, *two_readers]) + "\n")
    table = built(release)
    assert table.column("No Finding").to_pylist()[:2] == [None, 0]
    assert table.column("Cardiomegaly").to_pylist()[1] == -1
    assert table.column("Effusion").to_pylist()[1] == 1
    assert table.metadata["counts"]["images_without_three_readers"] == 1


@given(st.lists(st.lists(st.sampled_from([0, 1, None]), min_size=1, max_size=5), min_size=1, max_size=8))
def test_the_majority_does_not_depend_on_the_order_of_readers(answers: list[list[int | None]]) -> None:
    def labels(order: int) -> Mapping[str, int | None]:
        rows = [(str(image), vote) for image, votes in enumerate(answers) for vote in votes[::order]]
        schema = {"image_id": pl.String} | dict.fromkeys(VOCABULARY.findings, pl.Int8)
        frame = pl.DataFrame([(image, *[vote] * 28) for image, vote in rows], schema=schema, orient="row")
        return dict(majority(count_votes(frame)).select("image_id", "ILD").iter_rows())

    expected = {}
    for image, votes in enumerate(answers):
        known = [vote for vote in votes if vote is not None]
        balance = 2 * sum(known) - len(known)
        expected[str(image)] = None if not known else 1 if balance > 0 else -1 if balance == 0 else 0
    assert labels(1) == labels(-1) == expected


def test_wrong_rows_are_reported_together_by_line(release: Path) -> None:
    file = release / "annotations" / "image_labels_train.csv"
    header, *lines = file.read_text().splitlines()
    lines[1] = lines[1].replace("R2", "R1")
    lines[3] = "a/b" + lines[3][len(TWO) :]
    lines[4] = lines[4].replace(",0,", ",-1,", 1)
    file.write_text("\n".join([header, *lines]) + "\n")
    with pytest.raises(ManifestError) as refused:
        build(release)
    assert refused.value.problems == (
        f"line 3: image_id {ONE}: reader R1 again",
        "line 5: image_id 'a/b': expected a plain name",
        "line 6: Aortic enlargement: '-1': expected 0, 1 or blank",
    )


def test_an_image_twice_in_test_is_refused(release: Path) -> None:
    file = release / "annotations" / "image_labels_test.csv"
    file.write_text(file.read_text() + file.read_text().splitlines()[1] + "\n")
    with pytest.raises(ManifestError, match=r"line 3: image_id .* again"):
        build(release)


def test_one_of_the_files_is_enough_and_the_other_is_missed(release: Path) -> None:
    (release / "annotations" / "image_labels_test.csv").unlink()
    report = build(release)
    assert "image_labels_test.csv is not there: its images are left out" in report.notes
    assert report.exclusions["file_without_row"] == 1


def test_without_label_files_both_are_named(release: Path) -> None:
    for file in (release / "annotations").iterdir():
        file.unlink()
    with pytest.raises(ManifestError, match=r"expected image_labels_train\.csv or image_labels_test\.csv"):
        build(release)
