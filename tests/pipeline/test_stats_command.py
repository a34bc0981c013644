"""`cxr-prep stats` with a page and with experts, as a person runs it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from manifests.errors import UserError
from pipeline.cli import app
from tests.factories import make_manifest
from tests.manifests.expert_file import write_expert


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return make_manifest(tmp_path)


def run(*arguments: str | Path) -> str:
    """Return what a command prints on standard output; its user error is raised as it is."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_page_is_written_and_json_stays_json(manifest: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    found = json.loads(run("stats", manifest, "--json", "--html", page, "--against-expert", expert(tmp_path)))
    assert found["against_expert"]["images"]["val"]["train"] == 2
    assert "Manifest of nih" in page.read_text()
    assert "Against the experts" in page.read_text()


def test_agreement_is_shown_whole_on_a_narrow_terminal(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run("stats", manifest, "--against-expert", expert(tmp_path))
    assert "Nodule or mass (Nodule or Mass)" in shown
    assert "not labelled here" in shown
    assert "…" not in shown


def test_a_page_that_cannot_be_written_is_the_users_error(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"page\.html: cannot be written"):
        run("stats", manifest, "--html", tmp_path / "file" / "page.html")


def expert(folder: Path) -> Path:
    """Write the experts' labels of two training images and one that is not there."""
    seen = [
        ("00000001_000.png", "NO", "NO", "NO", "YES", "val"),
        ("00000001_001.png", "NO", "YES", "NO", "NO", "val"),
        ("00009999_000.png", "NO", "NO", "NO", "NO", "test"),
    ]
    return write_expert(folder / "expert.csv", seen)
