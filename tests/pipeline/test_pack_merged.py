"""`cxr-prep merge`, then `cxr-prep pack`: each dataset's images come from its own release."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from manifests.errors import ConfigError, UserError
from manifests.workspace import Workspace
from pipeline.cli import app
from pipeline.commands.pack import choose_roots
from pipeline.errors import PackError
from pipeline.pack import Pack, open_pack
from tests.factories import image_pixels, make_manifest, make_release
from tests.manifests.toy_manifest import NUM_TOY, make_toy

NUM_NIH, SIZE_PX = 12, 8


def run(*arguments: str | Path) -> str:
    """Return what a command prints; its user error is raised as it is."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def toy_root(tmp_path: Path) -> Path:
    root = tmp_path / "toy-release"
    (root / "img").mkdir(parents=True)
    for row, pixels in enumerate(image_pixels(NUM_TOY, SIZE_PX, seed=1)):
        Image.fromarray(pixels).save(root / "img" / f"t{row}.png")
    return root


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_root: Path) -> Workspace:
    """Two manifests, merged by the command, and both roots remembered."""
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "home"))
    workspace = Workspace.current()
    workspace.manifests.mkdir(parents=True)
    nih = make_manifest(workspace.manifests, num_images=NUM_NIH)
    toy = make_toy(workspace.manifest_path("toy"))
    workspace.remember_root("nih", make_release(tmp_path, num_images=NUM_NIH, size_px=SIZE_PX))
    workspace.remember_root("toy", toy_root)
    printed = run("merge", nih, toy)
    merged = workspace.manifest_path("nih+toy")
    assert f"next: cxr-prep pack --manifest {merged}" in printed
    assert "not labelled" in printed
    return workspace


def pack(workspace: Workspace, *options: str) -> Pack:
    run("pack", "--manifest", workspace.manifest_path("nih+toy"), "--size", str(SIZE_PX), *options)
    return open_pack(workspace.pack_path("nih+toy", SIZE_PX, "raw"))


def test_images_of_both_releases_are_packed_in_the_order_of_the_merged_manifest(workspace: Workspace) -> None:
    made = pack(workspace)
    pixels_NSS = np.load(made.shard_path(made.shards[0]))
    expected = [image_pixels(NUM_NIH, SIZE_PX), image_pixels(NUM_TOY, SIZE_PX, seed=1)]
    np.testing.assert_array_equal(pixels_NSS, np.concatenate(expected))
    assert made.dataset == "nih+toy"
    assert made.manifest().datasets == ("nih", "toy")


def test_a_root_is_given_for_one_of_the_datasets(workspace: Workspace, toy_root: Path) -> None:
    workspace.remember_root("toy", toy_root.parent / "gone")
    with pytest.raises(UserError, match="gone: no such folder"):
        pack(workspace)
    assert pack(workspace, "--root", f"toy={toy_root}").rejected == ()


def test_roots_are_those_given_else_those_remembered() -> None:
    found = choose_roots(("nih", "toy"), given=["toy=/new"], remembered={"nih": "/old", "toy": "/old"})
    assert found == {"nih": Path("/old"), "toy": Path("/new")}
    assert choose_roots(("nih",), given=["/a=b"], remembered={}) == {"nih": Path("/a=b")}
    assert choose_roots(("nih", "toy"), given=["/both"], remembered={}) == {"nih": Path("/both"), "toy": Path("/both")}


def test_an_unknown_root_names_its_option() -> None:
    with pytest.raises(PackError, match="dataset 'toy' lie is not known here; name their folder with --root toy=DIR"):
        choose_roots(("nih", "toy"), given=["nih=/a"], remembered={})


@pytest.mark.parametrize("given", [["nih=/a", "nih=/b"], ["nih=/a", "/b"]])
def test_two_roots_for_one_dataset_are_refused(given: list[str]) -> None:
    with pytest.raises(ConfigError, match="another folder for the images of dataset 'nih'"):
        choose_roots(("nih",), given=given, remembered={})
