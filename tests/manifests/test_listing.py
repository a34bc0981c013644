"""One pass over the folders of a release."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from manifests.errors import ConfigError, ManifestError
from manifests.listing import Listing, list_release
from tests.manifests.tiny_release import NAMES, build, touch_images, write_labels, write_lists

DOCUMENTS = ("labels.csv",)


def listed(root: Path) -> Listing:
    return list_release(root, suffixes=(".png",), documents=DOCUMENTS)


def test_images_are_found_anywhere_below_the_root(tmp_path: Path) -> None:
    touch_images(tmp_path, ["a.png"])
    touch_images(tmp_path / "images_001" / "images", ["b.PNG", "c.jpg", "d.png.txt"])
    touch_images(tmp_path / "x" / "y" / "z", ["e.png"])
    assert listed(tmp_path).images == {"": ["a.png"], "images_001/images": ["b.PNG"], "x/y/z": ["e.png"]}


def test_documents_are_found_by_name(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "below"):
        touch_images(folder, ["labels.csv", "other.csv"])
    found = listed(tmp_path).documents
    assert sorted(found["labels.csv"]) == ["", "below"]
    assert list(found) == ["labels.csv"]


def test_hidden_names_are_passed_over(tmp_path: Path) -> None:
    touch_images(tmp_path, ["._a.png", "a.png"])
    touch_images(tmp_path / ".cache", ["b.png"])
    assert listed(tmp_path).images == {"": ["a.png"]}


def test_links_to_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    touch_images(root / "images", ["a.png"])
    touch_images(elsewhere / "below", ["b.png"])
    touch_images(tmp_path / "sibling", ["not-in-the-release.png"])
    (root / "disk").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root)
    (root / "above").symlink_to(tmp_path)
    (root / "itself").symlink_to(root / "itself")
    (root / "nowhere").symlink_to(tmp_path / "missing")
    assert listed(root).images == {"images": ["a.png"], "disk/below": ["b.png"]}


def test_a_folder_reached_twice_counts_once_under_its_real_path(tmp_path: Path) -> None:
    touch_images(tmp_path / "images", ["a.png"])
    (tmp_path / "a-link").symlink_to(tmp_path / "images")
    assert listed(tmp_path).images == {"images": ["a.png"]}


def test_linked_images_are_images(tmp_path: Path) -> None:
    touch_images(tmp_path / "store", ["1"])
    touch_images(tmp_path / "images", [])
    (tmp_path / "images" / "a.png").symlink_to(tmp_path / "store" / "1")
    assert listed(tmp_path).images == {"images": ["a.png"]}


def test_names_that_are_not_utf8_are_told_apart(tmp_path: Path) -> None:
    touch_images(tmp_path / "images", ["a.png", os.fsdecode(b"\xff.png")])
    found = listed(tmp_path)
    assert found.images == {"images": ["a.png"]}
    assert found.unreadable_names == ["images/\\udcff.png"]


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch_images(tmp_path / "images", ["a.png"])
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "images":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ManifestError, match=r"images: cannot be listed \(Permission denied\)"):
        listed(tmp_path)


def test_below_keeps_the_images_of_one_folder(tmp_path: Path) -> None:
    for folder in ("images_64", "images_64/more", "images_640"):
        touch_images(tmp_path / folder, ["a.png"])
    found = listed(tmp_path)
    assert sorted(found.below("images_64/").images) == ["images_64", "images_64/more"]
    assert found.below(".").images == found.images
    with pytest.raises(ConfigError, match=r"--images images: no image below it \(folders with images: images_64,"):
        found.below("images")


def test_a_folder_is_listed_once_and_no_file_is_asked_for_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "release"
    write_labels(root)
    write_lists(root)
    for folder, names in (("images_001/images", NAMES[:3]), ("images_002/images", NAMES[3:])):
        touch_images(root / folder, names)
    calls: Counter[tuple[str, str]] = Counter()

    def counting(name: str) -> None:
        original = getattr(os, name)

        def call(path: Any, *args: Any, **options: Any) -> Any:
            calls[name, str(path)] += 1
            return original(path, *args, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("scandir", "stat", "lstat", "listdir"):
        counting(name)
    assert build(root).splits["test"][0] == 2
    monkeypatch.undo()
    folders = ["", "images_001", "images_001/images", "images_002", "images_002/images"]
    assert {key: count for key, count in calls.items() if key[0] in ("scandir", "listdir")} == {
        ("scandir", str(root / folder)): 1 for folder in folders
    }
    assert [path for _, path in calls if path.endswith(".png")] == []
