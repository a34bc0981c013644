"""A new dataset takes one module under a hundred lines; everything else is shared."""

from pathlib import Path
from typing import Any

import pytest

from manifests.build import BuildConfig, BuildReport, build_manifest
from manifests.datasets import MODULES
from manifests.errors import ConfigError
from manifests.label_spaces import label_space
from manifests.selection import select
from manifests.table import read_manifest
from tests.manifests import toy_dataset
from tests.prep_command import run

LABELS = """number,file,person,view,words
1,a/1.png,p1,PA,wet lung+big heart
2,a/2.png,p1,L,wet lung
3,b/1.png,p2,AP,fine
4,b/2.png,p3,PA,odd shadow+wet lung
"""
FILES = ("a/1.png", "a/2.png", "b/1.png", "b/2.png")


@pytest.fixture(autouse=True)
def toy_is_registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(MODULES, "toy", "tests.manifests.toy_dataset")
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "home"))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    root = tmp_path / "release"
    root.mkdir()
    (root / "toy.csv").write_text(LABELS)
    for file in FILES:
        path = root / "somewhere" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def build(root: Path, **choices: Any) -> BuildReport:
    out = root.parent / "manifest" / "toy.parquet"
    return build_manifest(BuildConfig(dataset="toy", root=root, out=out, **choices))


def test_the_module_is_under_a_hundred_lines() -> None:
    assert len(Path(toy_dataset.__file__).read_text().splitlines()) < 100


def test_images_match_by_the_last_parts_of_their_paths(release: Path) -> None:
    table = read_manifest(build(release).out)
    assert table.strings("path") == [f"somewhere/{file}" for file in ("a/1.png", "b/1.png", "b/2.png")]
    assert table.strings("image_id") == ["a/1.png", "b/1.png", "b/2.png"]


def test_rows_left_out_by_a_rule_of_the_datasets_own_are_counted_listed_and_explained(release: Path) -> None:
    report = build(release)
    meaning = "images of a view that the option views does not have"
    assert report.exclusions["view_not_wanted"] == 1
    assert report.meanings["view_not_wanted"] == meaning
    # The file of such a row is known, so that it does not count as one without a row.
    assert report.exclusions["file_without_row"] == 0
    assert report.left_out is not None
    assert report.left_out.read_text() == "reason,image_id,path\nview_not_wanted,a/2.png,films/a/2.png\n"
    metadata = read_manifest(report.out).metadata
    assert metadata["exclusions"] == report.exclusions
    assert metadata["exclusion_meanings"]["view_not_wanted"] == meaning
    assert metadata["counts"]["label_rows"] == 4


def test_words_without_a_finding_are_counted_and_listed_never_guessed(release: Path) -> None:
    report = build(release)
    assert report.num_unmapped == 1
    assert read_manifest(report.out).metadata["unmapped_terms"] == {"odd shadow": 1}
    assert report.side_tables["unmapped-terms"].read_text() == "term,count\nodd shadow,1\n"


def test_side_tables_appear_beside_the_manifest_and_go_when_they_are_empty(release: Path) -> None:
    report = build(release)
    assert report.side_tables["words"] == report.out.with_name("toy.words.csv")
    assert len(report.side_tables["words"].read_text().splitlines()) == 5
    (release / "toy.csv").write_text(LABELS.replace("odd shadow+", ""))
    assert set(build(release, preset="everything").side_tables) == {"words"}
    assert sorted(path.name for path in report.out.parent.iterdir()) == ["toy.parquet", "toy.words.csv"]


def test_a_preset_chooses_and_an_option_overrides_it(release: Path) -> None:
    everything = read_manifest(build(release, preset="everything").out)
    assert everything.num_rows == 4
    assert (everything.metadata["preset"], everything.metadata["options"]) == ("everything", {"views": "PA,AP,L"})
    chosen = read_manifest(build(release, preset="everything", options={"views": "L"}).out)
    assert chosen.strings("view") == ["L"]
    assert chosen.metadata["options"] == {"views": "L"}


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"options": {"views": "PA,LL"}}, r"--option views=PA,LL: 'LL' unknown \(there are: PA, AP, L; several are"),
        ({"options": {"views": "PA,PA"}}, r"--option views=PA,PA: a value stands twice"),
        ({"options": {"view": "PA"}}, r"--option view: unknown; did you mean views\? \(there are: views\) of dataset"),
        ({"preset": "everthing"}, r"--preset everthing: unknown; did you mean everything\?"),
    ],
)
def test_choices_that_are_none_are_refused(release: Path, choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(release, **choices)
    assert not (release.parent / "manifest").exists()


def test_a_finding_that_it_does_not_label_is_masked_whatever_the_label_space(release: Path) -> None:
    table = read_manifest(build(release).out)
    for name in ("nih14", "chexpert14", "nvum-nih:ones", "nvum-cxp"):
        space = label_space(name)
        selection = select(table, space, None)
        labelled = {"Edema", "Cardiomegaly", "No Finding"}
        assert selection.mask_NC.any(axis=0).tolist() == [finding in labelled for finding in space.findings]


def test_the_command_line_knows_it(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("build-manifest", "--dataset", "toy", "--root", release, "--preset", "everything", "--option", "views=PA")
    assert run(monkeypatch, *asked) == 0
    shown = capsys.readouterr().out
    assert "left out: 2 images of a view that the option views does not have" in shown
    assert "words that name no finding: 1" in shown
    assert f"words that name no finding, with counts: {tmp_path / 'home/manifests/toy.unmapped-terms.csv'}" in shown
    assert run(monkeypatch, *asked[:-1], "views") == 2
    assert "--option views: expected KEY=VALUE" in capsys.readouterr().err
    assert run(monkeypatch, *asked, "--option", "views=L") == 2
    assert "--option views: given twice" in capsys.readouterr().err


def test_datasets_tells_all_about_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "datasets", "toy") == 0
    shown = capsys.readouterr().out
    for text in (
        "toy: Toy films: 4 images of 3 patients", "Edema, Cardiomegaly, No Finding", "toy.csv: labels", "Made up.",
        "cxr-prep build-manifest --dataset toy --root DIR",
        "--option views=PA|AP|L, several joined by commas (default PA,AP): Views to keep.",
        "--preset everything: views=PA,AP,L",
    ):  # fmt: skip
        assert text in shown
    assert run(monkeypatch, "datasets", "toi") == 2
    assert "did you mean toy?" in capsys.readouterr().err


def test_label_space_shows_how_each_output_maps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "label-space", "show", "nvum-nih", "--dataset", "toy") == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[2].startswith("rows left out of toy: ")
    assert shown[2].endswith("present: Consolidation")
    assert "  9 Edema                       <- wet lung" in shown
    assert any("wet lung: the toy hospital's word for it" in line for line in shown)
    assert "  1 Atelectasis                 n/a: Toy films does not label it; masked, never negative" in shown
