"""`verify_pack` finds whatever is wrong, all of it at once, and passes what is sound."""

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PackError
from pipeline.image_spec import ImageSpec
from pipeline.pack import Pack, read_pack_json
from pipeline.packing.config import PackConfig
from pipeline.packing.packer import pack_manifest
from pipeline.packing.pixels import PIXEL_RULE
from pipeline.packing.raw import RawFormat
from pipeline.packing.shard_format import Encoding, ShardLayout
from pipeline.packing.verify import verify_pack
from tests.factories import image_names, make_manifest, make_release

NUM_IMAGES = 70
"""Two shards."""

SIZE_PX = 5
REJECTED = (2, 66)
LAYOUT = ShardLayout(spec=ImageSpec.square(4), encoding=Encoding(), num_samples=3)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("verify")
    root, manifest = make_release(folder, num_images=NUM_IMAGES), make_manifest(folder, num_images=NUM_IMAGES)
    for index in REJECTED:
        (root / "images" / image_names(NUM_IMAGES)[index]).write_bytes(b"")
    config = PackConfig(spec=ImageSpec.square(SIZE_PX))
    return pack_manifest(manifest, root=root, out=folder / "pack", config=config).pack


@pytest.fixture
def folder(packed: Pack, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(packed.folder, tmp_path / "pack"))


def problems(folder: Path) -> str:
    with pytest.raises(PackError) as caught:
        verify_pack(folder)
    return str(caught.value)


def test_sound_pack_passes_with_its_progress(packed: Pack) -> None:
    calls: list[tuple[int, int]] = []
    assert verify_pack(packed.folder, lambda done, total: calls.append((done, total))) == packed
    total = sum(shard.num_bytes for shard in packed.shards)
    assert calls[-1] == (total, total)
    assert packed.rejected == REJECTED


@settings(max_examples=200)
@given(data=st.data())
def test_any_changed_byte_of_any_file_is_found(packed: Pack, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(packed.folder.iterdir())))
    content = path.read_bytes()
    changed = bytearray(content)
    changed[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    try:
        assert path.name in problems(packed.folder)
    finally:
        path.write_bytes(content)


def test_all_problems_are_reported_together(folder: Path) -> None:
    os.truncate(folder / "shard-00000.npy", 200)
    (folder / "shard-00001.npy").unlink()
    (folder / "rejected.parquet").unlink()
    (folder / "manifest.parquet").write_bytes(b"")
    found = problems(folder)
    assert "4 problems; restore these files or pack again" in found
    assert "shard-00000.npy: cut short or grown: 200 bytes, expected 1,728" in found
    assert "shard-00001.npy: missing" in found
    assert "rejected.parquet: No such file or directory" in found
    assert "manifest.parquet: its checksum is e3b0c44298fc, expected" in found


def write_down(folder: Path, **changes: object) -> None:
    """Make pack.json say that the damage is right."""
    (folder / "pack.json").write_bytes(replace(read_pack_json(folder), **changes).to_json())  # type: ignore[arg-type]


def test_manifest_of_another_pack_is_found(folder: Path, tmp_path: Path) -> None:
    table = pq.read_table(make_manifest(tmp_path, num_images=NUM_IMAGES))
    other = folder / "manifest.parquet"
    pq.write_table(table.take(list(reversed(range(NUM_IMAGES)))), other)
    assert "manifest.parquet: its checksum is" in problems(folder)
    write_down(folder, manifest_sha256=hashlib.sha256(other.read_bytes()).hexdigest())
    assert "manifest.parquet: the manifest of another pack" in problems(folder)


def test_pixels_of_a_rejected_image_are_found(folder: Path) -> None:
    write_down(folder, rejected=(2, 3, 66))
    assert "shard-00000.npy: sample_index 3 is rejected but has pixels" in problems(folder)


def test_missing_pack_is_said(tmp_path: Path) -> None:
    assert problems(tmp_path / "absent") == f"{tmp_path / 'absent'}: no such folder; make a pack with `cxr-prep pack`"


def test_rejected_list_of_another_pack_is_found(folder: Path) -> None:
    table = pq.read_table(folder / "rejected.parquet")
    other = folder / "rejected.parquet"
    pq.write_table(table.slice(1), other)
    write_down(folder, rejected_sha256=hashlib.sha256(other.read_bytes()).hexdigest())
    assert "rejected.parquet: lists 1 images, pack.json 2 or others" in problems(folder)


def test_pixels_by_another_rule_are_said(packed: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.packing.verify.PIXEL_RULE", "another")
    assert f"pixels by rule {PIXEL_RULE}, this version makes them by rule another" in problems(packed.folder)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((3, 4, 4), np.uint8), []),
        (np.ones((3, 4, 4), np.uint8), ["sample_index 8 is rejected but has pixels"]),
        (np.zeros((3, 4, 4), np.int8), ["an array int8 (3, 4, 4), expected uint8 (3, 4, 4)"]),
        (np.zeros((2, 4, 4), np.uint8), ["an array uint8 (2, 4, 4), expected uint8 (3, 4, 4)"]),
    ],
)
def test_inside_of_a_raw_shard_is_looked_at(tmp_path: Path, array: np.ndarray, found: list[str]) -> None:
    np.save(tmp_path / "shard.npy", array)
    assert RawFormat().problems(tmp_path / "shard.npy", LAYOUT, 7, [8]) == found


def test_raw_shard_of_other_bytes_is_said(tmp_path: Path) -> None:
    (tmp_path / "shard.npy").write_bytes(b"not an array")
    assert "not a .npy file" in RawFormat().problems(tmp_path / "shard.npy", LAYOUT, 7, [])[0]
