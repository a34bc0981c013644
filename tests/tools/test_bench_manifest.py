"""The manifest's benchmark compares like with like."""

from pathlib import Path

import pytest

from manifests.datasets.nih import LISTS
from tests.manifests.tiny_release import built, write_release
from tools.bench_manifest import NUM_PATIENTS, NUM_ROWS, copy_labels, write_images, write_synthetic_labels
from tools.manifest_peer import peer_table


def test_the_peer_makes_the_same_table(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    assert peer_table(root).equals(built(root).table)


def test_the_peer_makes_the_same_table_of_the_complete_release(real_data: Path, tmp_path: Path) -> None:
    copy_labels(real_data / "nih" / "Data_Entry_2017_v2020.csv.gz", tmp_path)
    table = built(tmp_path, out=tmp_path / "nih.parquet", allow_missing_images=True).table
    assert peer_table(tmp_path).equals(table)


def test_the_synthetic_release_has_the_size_of_the_real_one(tmp_path: Path) -> None:
    write_synthetic_labels(tmp_path)
    counts = built(tmp_path, out=tmp_path / "nih.parquet", allow_missing_images=True).metadata["counts"]
    assert (counts["images"], counts["patients"]) == (NUM_ROWS, NUM_PATIENTS)


def test_synthetic_images_are_those_of_the_lists(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    listed = {name for file in LISTS.values() for name in (root / file).read_text().split("\n")}
    write_images(tmp_path / "release")
    paths = list(root.glob("images_*/images/*.png"))
    assert {path.name for path in paths} == listed
    assert len({path.parent for path in paths}) == len(listed)  # six files in twelve folders: one each


def test_labels_of_another_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="expected one of"):
        copy_labels(tmp_path / "labels.csv", tmp_path)
