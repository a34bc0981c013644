"""`cxr-prep build-manifest` and `cxr-prep stats`, as a user meets them."""

import json
from pathlib import Path

import pytest

from manifests.datasets import MODULES, dataset
from manifests.label_spaces import LABEL_SPACES, label_space
from manifests.stats import manifest_stats
from manifests.table import read_manifest
from manifests.workspace import Workspace
from tests.manifests.tiny_release import LABELS, NAMES, row, write_labels, write_lists, write_release
from tests.prep_command import run


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path / "home"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


def test_the_short_way(
    home: Path, release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (release / "images" / NAMES[1]).unlink()
    assert run(monkeypatch, "build-manifest", "--dataset", "nih", "--root", release) == 0
    shown = capsys.readouterr().out
    manifest = home / "manifests" / "nih.parquet"
    assert read_manifest(manifest).num_rows == 5
    assert Workspace.current().roots() == {"nih": str(release)}
    for text in (
        "NIH ChestX-ray14", "Pleural_Thickening", "split: official lists", "left out: 1 label rows without a file",
        f"left out, one a line: {home / 'manifests' / 'nih.left-out.csv'}", f" s: {manifest}\n",
    ):  # fmt: skip
        assert text in shown
    assert shown.endswith("next: cxr-prep pack\n")
    assert run(monkeypatch, "stats") == 0


def test_another_output_is_named_in_the_next_command(
    tmp_path: Path, release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new folder" / "x.parquet"
    assert run(monkeypatch, "build-manifest", "--dataset", "nih", "--root", release, "--out", out) == 0
    assert capsys.readouterr().out.endswith(f"next: cxr-prep pack --manifest '{out}'\n")


def test_a_second_manifest_and_a_second_folder_are_named(
    home: Path, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_release(tmp_path / "other")
    second = home / "manifests" / "second.parquet"
    assert run(monkeypatch, "build-manifest", "--dataset", "nih", "--root", release) == 0
    assert "warning" not in capsys.readouterr().err
    assert run(monkeypatch, "build-manifest", "--dataset", "nih", "--root", other, "--out", second) == 0
    shown = capsys.readouterr()
    assert shown.out.endswith(f"next: cxr-prep pack --manifest {second}\n")
    assert " ".join(shown.err.split()) == (
        f"warning: images of nih are looked for in {other} from now on, no longer in {release}; "
        "give --root to `cxr-prep pack` for manifests of that folder"
    )


def test_options_reach_the_build(release: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--seed", 3, "--valid-fraction", 0.25, "--images", "images", "--allow-missing-images")
    (release / "images" / NAMES[0]).unlink()
    assert run(monkeypatch, "build-manifest", "--dataset", "nih", "--root", release, *options) == 0
    table = read_manifest(home / "manifests" / "nih.parquet")
    assert (table.metadata["split"]["seed"], table.metadata["split"]["valid_fraction"]) == (3, 0.25)
    assert table.num_rows == 6


def test_a_users_error_is_shown_once_with_exit_code_2_and_nothing_written(
    home: Path, release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_labels(release, [row("00000001_000.png", "Masss"), row("x/y.png", patient="1")])
    assert run(monkeypatch, "build-manifest", "--dataset", "nih", "--root", release) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        f"error: {release / LABELS}: 2 problems",
        "  line 2: Finding Labels: finding 'Masss' is unknown, did you mean 'Mass'?",
        "  line 3: Image Index 'x/y.png': expected the plain name of a .png file",
    ]
    assert not home.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dataset", "xxx"), "error: --dataset xxx: unknown (there are: nih, chexpert, "),
        (("--dataset", "nih", "--valid-fraction", "0.9"), "error: --valid-fraction 0.9: expected 0 to 0.5"),
        (("--dataset", "nih", "--images", "nowhere"), "error: --images nowhere: no image below it"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(
    release: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    assert run(monkeypatch, "build-manifest", "--root", release, *arguments) == 2
    assert capsys.readouterr().err.startswith(message)


def test_a_broken_roots_file_stops_before_the_work(
    home: Path, release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir()
    (home / "roots.json").write_text("{")
    assert run(monkeypatch, "build-manifest", "--dataset", "nih", "--root", release) == 2
    assert "roots.json: not JSON" in capsys.readouterr().err
    assert not (home / "manifests").exists()


def test_a_workspace_that_cannot_be_written_is_a_warning_when_the_manifest_is_elsewhere(
    home: Path, tmp_path: Path, release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Workspace, "remember_root", refuse)
    out = tmp_path / "x.parquet"
    assert run(monkeypatch, "build-manifest", "--dataset", "nih", "--root", release, "--out", out) == 0
    assert (
        "roots.json: cannot be written (Permission denied); give --root to `cxr-prep pack`" in capsys.readouterr().err
    )


def test_stats_as_json_are_all_the_counts(
    home: Path, release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "build-manifest", "--dataset", "nih", "--root", release)
    capsys.readouterr()
    assert run(monkeypatch, "stats", "--json") == 0
    manifest = home / "manifests" / "nih.parquet"
    assert json.loads(capsys.readouterr().out) == {
        "manifest": str(manifest),
        **manifest_stats(read_manifest(manifest)),
    }


def test_stats_shows_every_count_whole_on_a_narrow_terminal(
    release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{patient:08d}_000.png" for patient in range(1, 2001)]
    write_labels(release, [row(name, "Mass|Nodule") for name in names])
    write_lists(release, names[:1900], names[1900:])
    run(monkeypatch, "build-manifest", "--dataset", "nih", "--root", release, "--allow-missing-images")
    capsys.readouterr()
    assert run(monkeypatch, "stats") == 0
    shown = capsys.readouterr().out
    assert "…" not in shown
    for text in (
        "2,000 (100.0%)",
        "images that bear both findings",
        "nvum-nih authors",
        "built: 2 files without a label row",
    ):
        assert text in shown


@pytest.mark.parametrize("split", ["train", "test"])
def test_stats_shows_priors_where_there_is_a_training_row(
    split: str, release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = {"train": (NAMES, ["other.png"]), "test": (["other.png"], NAMES)}
    write_lists(release, *lists[split])
    run(monkeypatch, "build-manifest", "--dataset", "nih", "--root", release, "--valid-fraction", "0")
    capsys.readouterr()
    assert run(monkeypatch, "stats") == 0
    shown = capsys.readouterr().out
    assert ("priors of the training rows" in shown) == (split == "train")
    assert ("priors: none, as no label space selects a training row" in shown) == (split == "test")


def test_stats_of_what_is_no_manifest_is_refused(
    release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "stats", release / LABELS) == 2
    assert "cannot be read as a Parquet file" in capsys.readouterr().err
    assert run(monkeypatch, "stats") == 2
    assert "run `cxr-prep build-manifest" in capsys.readouterr().err


def test_datasets_lists_every_dataset_with_its_files_terms_and_citation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "datasets") == 0
    shown = capsys.readouterr().out
    for name in MODULES:
        found = dataset(name)
        for text in (f"{name}: {found.title}: ", *found.layout, found.terms, found.citation, *found.options):
            assert text in shown


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("space", LABEL_SPACES)
def test_every_label_space_maps_to_every_dataset(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, space: str
) -> None:
    assert run(monkeypatch, "label-space", "show", space, "--dataset", name) == 0
    shown = capsys.readouterr().out
    labelled = dataset(name).vocabulary.findings
    for number, finding in enumerate(label_space(space).findings, start=1):
        assert f"{number:3} {finding:27} {'<-' if finding in labelled else 'n/a:'} " in shown
