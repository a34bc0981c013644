"""`verify_pack` finds whatever is wrong, all of it at once, and passes what is sound."""

import hashlib
import os
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DamagedPackError, PackError
from pipeline.image_spec import ImageSpec
from pipeline.pack import Pack, read_pack_json
from pipeline.packing import tar
from pipeline.packing.config import PackConfig
from pipeline.packing.formats import FORMATS
from pipeline.packing.packer import pack_manifest
from pipeline.packing.pixels import PIXEL_RULE, DecodedImage
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


@pytest.fixture(scope="module", params=sorted(FORMATS))
def any_pack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """A pack of each format, two samples of it rejected."""
    folder = tmp_path_factory.mktemp(request.param)
    root, manifest = make_release(folder, num_images=NUM_IMAGES), make_manifest(folder, num_images=NUM_IMAGES)
    for index in REJECTED:
        (root / "images" / image_names(NUM_IMAGES)[index]).write_bytes(b"")
    config = PackConfig(format=request.param, spec=ImageSpec(height_px=7, width_px=5))
    return pack_manifest(manifest, root=root, out=folder / "pack", config=config).pack


def checksums(pack: Pack) -> list[dict[str, int]]:
    rows: list[dict[str, int]] = pq.read_table(pack.folder / "checksums.parquet").to_pylist()
    return rows


def test_checksums_are_those_of_the_samples_bytes(any_pack: Pack) -> None:
    rows = checksums(any_pack)
    assert len(rows) == NUM_IMAGES
    for shard in any_pack.shards:
        content, end = any_pack.shard_path(shard).read_bytes(), 0
        for row in rows[shard.first_index : shard.first_index + shard.num_samples]:
            assert row["offset"] >= end
            end = row["offset"] + row["num_bytes"]
            assert zlib.crc32(content[row["offset"] : end]) == row["crc32"]
        assert end <= len(content)
    empty = [index for index, row in enumerate(rows) if not row["num_bytes"]]
    assert empty == (list(REJECTED) if any_pack.format == "tar" else [])


@settings(max_examples=40)
@given(data=st.data())
def test_a_flipped_bit_is_found_with_its_shard_and_sample(any_pack: Pack, data: st.DataObject) -> None:
    shard = data.draw(st.sampled_from(any_pack.shards))
    path = any_pack.shard_path(shard)
    content = path.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    rows = checksums(any_pack)[shard.first_index : shard.first_index + shard.num_samples]
    sample = [
        shard.first_index + number
        for number, row in enumerate(rows)
        if row["offset"] <= position < row["offset"] + row["num_bytes"]
    ]
    changed = bytearray(content)
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(changed)
    try:
        found = problems(any_pack.folder)
    finally:
        path.write_bytes(content)
    assert f"{shard.file}: changed: its checksum is" in found
    if sample:
        image_id = image_names(NUM_IMAGES)[sample[0]]
        assert found.endswith(f"changed sample: sample_index {sample[0]} ({image_id})")
    else:
        assert found.endswith("no sample, but what lies before, between or behind them")


def test_several_changed_samples_are_listed(any_pack: Pack, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(any_pack.folder, tmp_path / "pack"))
    path = folder / any_pack.shards[0].file
    content = bytearray(path.read_bytes())
    for index in range(10, 30):
        content[checksums(any_pack)[index]["offset"]] ^= 4
    path.write_bytes(content)
    listed = "10, 11, 12, 13, 14, 15, 16, 17, ... (20 in all)"
    assert f"changed samples: sample_index {listed}" in problems(folder)


def test_what_is_cut_off_is_listed(any_pack: Pack, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(any_pack.folder, tmp_path / "pack"))
    shard = any_pack.shards[0]
    last = shard.num_samples - 1
    os.truncate(folder / shard.file, checksums(any_pack)[last]["offset"] + 1)
    assert f"changed sample: sample_index {last} (" in problems(folder)


def test_without_its_checksums_a_pack_still_tells_the_shard(any_pack: Pack, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(any_pack.folder, tmp_path / "pack"))
    path = folder / any_pack.shards[0].file
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    (folder / "checksums.parquet").unlink()
    found = problems(folder)
    assert "2 problems" in found
    assert "checksums.parquet: No such file or directory" in found
    assert "which samples, checksums.parquet does not tell any more" in found


def test_a_side_file_is_part_of_the_pack(any_pack: Pack, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(any_pack.folder, tmp_path / "pack"))
    side_files = [side.file for shard in any_pack.shards for side in shard.side_files]
    assert bool(side_files) == (any_pack.format == "tar")
    for file in side_files:
        (folder / file).write_bytes((folder / file).read_bytes().replace(b"v1.2", b"v1.1"))
        assert f"{file}: its checksum is" in problems(folder)


def test_a_missing_side_file_is_one_problem(any_pack: Pack, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(any_pack.folder, tmp_path / "pack"))
    for file in [side.file for shard in any_pack.shards for side in shard.side_files][:1]:
        (folder / file).unlink()
        found = problems(folder)
        assert "1 problem;" in found
        assert f"{file}: No such file or directory" in found


def test_decode_finds_what_no_checksum_can(tmp_path: Path) -> None:
    """An encoder that failed while packing: header, sizes and every checksum fit."""
    root, manifest = make_release(tmp_path, num_images=20), make_manifest(tmp_path, num_images=20)
    calls: list[DecodedImage] = []

    def encode(image: DecodedImage, spec: ImageSpec, encoding: Encoding) -> bytes:
        calls.append(image)
        content = real_encode(image, spec, encoding)
        return content[:-100] if len(calls) == 4 else content

    real_encode = tar.encode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tar, "encode", encode)
        config = PackConfig(format="tar", spec=ImageSpec.square(16))
        pack = pack_manifest(manifest, root=root, out=tmp_path / "pack", config=config).pack
    assert verify_pack(pack.folder) == pack
    decoded: list[tuple[int, int]] = []
    with pytest.raises(DamagedPackError) as caught:
        verify_pack(pack.folder, decode=True, on_decoded=lambda done, total: decoded.append((done, total)))
    assert "1 problem;" in str(caught.value)
    assert "shard-00000.tar: sample_index 3: does not decode (image file is truncated" in str(caught.value)
    assert decoded[-1] == (20, 20)


def test_decode_passes_sound_packs(any_pack: Pack) -> None:
    assert verify_pack(any_pack.folder, decode=True) == any_pack


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
