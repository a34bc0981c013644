"""`cxr-prep pack` and `cxr-prep verify` as a person runs them."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from manifests.errors import UserError
from manifests.workspace import Workspace
from pipeline.cli import app
from pipeline.loaders import BACKENDS
from pipeline.pack_format import LOADERS, PackFormat
from tests.factories import image_names, make_manifest, make_release

NUM_IMAGES = 12


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release whose manifest and root are in the workspace, which is this process's."""
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "home"))
    workspace = Workspace.current()
    workspace.manifests.mkdir(parents=True)
    make_manifest(workspace.manifests, num_images=NUM_IMAGES)
    root = make_release(tmp_path, num_images=NUM_IMAGES, size_px=8)
    workspace.remember_root("nih", root)
    return root


def run(*arguments: str | Path) -> str:
    """Return what a command prints; its user error is raised as it is."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_short_way_needs_no_option(release: Path) -> None:
    printed = run("pack")
    folder = Workspace.current().pack_path("nih", 256, "raw")
    assert f"images    {NUM_IMAGES} of {NUM_IMAGES} packed" in printed
    assert "rejected  0\n" in printed
    assert f"pack      {folder}" in printed
    assert printed.endswith("next      cxr-train\n")
    assert f"OK: {NUM_IMAGES} samples, 0 rejected, 1 shard, 256 px, raw" in run("verify", folder)


def test_resuming_a_complete_pack_says_so(release: Path) -> None:
    run("pack", "--size", "16")
    printed = run("pack", "--size", "16", "--resume")
    assert f"images    {NUM_IMAGES} of {NUM_IMAGES} packed ({NUM_IMAGES} of them before)" in printed
    assert "speed     nothing was left to pack\n" in printed


def test_other_folder_is_named_in_the_next_command(release: Path, tmp_path: Path) -> None:
    out = tmp_path / "[mine]"  # no markup
    printed = run("pack", "--out", out, "--size", "16", "--split", "train", "--workers", "1")
    assert f"next      cxr-train --pack '{out}'\n" in printed
    assert f"images    {NUM_IMAGES // 2} of {NUM_IMAGES // 2} packed" in printed


def test_rejected_images_are_counted_and_loud(release: Path) -> None:
    (release / "images" / image_names(NUM_IMAGES)[1]).write_text("<html>")
    (release / "images" / image_names(NUM_IMAGES)[4]).unlink()
    printed = run("pack", "--size", "8")
    assert "rejected  2: not an image 1, missing file 1" in printed
    assert "warning: 16.7% of the images are rejected; see" in printed


def test_unknown_root_names_the_option(release: Path) -> None:
    Workspace.current().roots_file.unlink()
    with pytest.raises(UserError, match="dataset 'nih' lie is not known here; name their folder with --root"):
        run("pack")
    assert "12 of 12 packed" in run("pack", "--root", release)


def test_interruption_says_how_to_go_on(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.packing.packer.describe", interrupt)
        result = CliRunner().invoke(app, ["pack"])
    assert result.exit_code == 130
    assert "finished shards are kept in" in result.output
    assert "continue with the same command and --resume" in result.output
    assert f"({NUM_IMAGES} of them before)" in run("pack", "--resume")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pack", "--quality", "90"], "error: --quality means nothing here: raw stores gray pixels as they are"),
        (["verify", "absent"], "error: absent: no such folder; make a pack with `cxr-prep pack`"),
    ],
)
def test_user_error_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert process.returncode == 2
    assert process.stderr.startswith(message)
    assert process.stderr.count("\n") == 1
    assert process.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("pack_format", "loader"), [("raw", ""), ("tar", " --loader dali"), ("beton", " --loader ffcv")]
)
def test_the_next_command_names_the_loader_for_the_format(release: Path, pack_format: PackFormat, loader: str) -> None:
    assert f"next      cxr-train{loader}\n" in run("pack", "--size", "8", "--format", pack_format)
    folder = Workspace.current().pack_path("nih", 8, pack_format)
    assert f"cxr-train{loader} --pack {shlex.quote(str(folder))}" in run("info", folder)


def test_every_format_has_a_loader_that_reads_it() -> None:
    assert {pack_format: pack_format in BACKENDS[name].formats for pack_format, name in LOADERS.items()} == {
        "raw": True,
        "tar": True,
        "beton": True,
    }
