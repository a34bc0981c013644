"""Opening a pack: cheap, and yet nothing missing, cut short or foreign gets through."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.workspace import Workspace
from pipeline.errors import PackError
from pipeline.pack import Pack, identity_of, only_pack, open_pack
from tests.factories import image_pixels, make_manifest, make_pack

NUM_IMAGES = 70
"""More than one shard."""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return make_pack(tmp_path_factory.mktemp("packed"), num_images=NUM_IMAGES, size_px=8)


@pytest.fixture
def folder(packed: Pack, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(packed.folder, tmp_path / "pack"))


def change_pack_json(folder: Path, **changes: object) -> None:
    """Write a pack.json whose checksum fits although it was changed."""
    document = json.loads((folder / "pack.json").read_bytes()) | changes
    document.pop("checksum")
    checksum = hashlib.sha256((json.dumps(document, indent=1) + "\n").encode()).hexdigest()
    (folder / "pack.json").write_text(json.dumps(document | {"checksum": checksum}, indent=1) + "\n")


def test_open_pack_returns_what_was_packed(packed: Pack) -> None:
    assert open_pack(packed.folder) == packed
    assert packed.num_samples == NUM_IMAGES
    assert [shard.first_index for shard in packed.shards] == [0, 64]


def test_sample_index_is_the_row_of_the_manifest(packed: Pack, tmp_path: Path) -> None:
    packed_rows = packed.manifest().table
    assert packed_rows.equals(pq.read_table(make_manifest(tmp_path, num_images=NUM_IMAGES)))
    images = np.concatenate([np.load(packed.shard_path(shard), mmap_mode="r") for shard in packed.shards])
    np.testing.assert_array_equal(images, image_pixels(NUM_IMAGES, 8))


def test_manifest_is_read_once(packed: Pack) -> None:
    pack = open_pack(packed.folder)
    assert pack.manifest() is pack.manifest()


rows = st.lists(st.tuples(st.sampled_from(["nih", "openi"]), st.text(max_size=3)), max_size=4)


@given(one=rows, other=rows)
def test_identity_is_equal_exactly_for_equal_rows(one: list[tuple[str, str]], other: list[tuple[str, str]]) -> None:
    identities = [identity_of([d for d, _ in rows], [i for _, i in rows]) for rows in (one, other)]
    assert (identities[0] == identities[1]) == (one == other)


def test_identity_is_frozen() -> None:
    found = identity_of(["nih", "nih"], ["00000001_000", "00000001_001"])
    assert found == "2a3a1ba43704c000a2184caea61f8fb9d1b889714ed513ca0c1d131d1f456adc"


def put_file_in_place(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "no such folder; make a pack with `cxr-prep pack`"),
        (put_file_in_place, "a file; name the folder of a pack, which holds pack.json"),
        (lambda folder: (folder / "pack.json").unlink(), "no pack.json in it, so it is not a pack"),
        (lambda folder: (folder / "pack.json").write_text("{"), "broken"),
        (lambda folder: (folder / "pack.json").write_text("[]"), "schema 'list', this version reads 'cxr-pack/3'"),
        (lambda folder: change_pack_json(folder, schema="cxr-pack/1"), "schema 'cxr-pack/1', this version reads"),
        (lambda folder: change_pack_json(folder, num_samples=71), "do not fit its 71 samples"),
        (lambda folder: change_pack_json(folder, rejected=[70]), "do not fit its 70 samples"),
        (lambda folder: change_pack_json(folder, rejected=[3, 3]), "do not fit its 70 samples"),
        (lambda folder: change_pack_json(folder, shards=[{"file": "x"}]), "broken"),
        (lambda folder: change_pack_json(folder, colour="red"), "broken"),
        (lambda folder: change_pack_json(folder, format="zip"), "do not fit"),
        (lambda folder: (folder / "shard-00001.npy").unlink(), "cut short.*\n  shard-00001.npy: missing"),
        (lambda folder: os.truncate(folder / "shard-00000.npy", 99), "shard-00000.npy: 99 bytes, expected"),
        (lambda folder: (folder / "manifest.parquet").unlink(), "not the pack's manifest"),
        (lambda folder: (folder / "manifest.parquet").write_text("no"), "not the pack's manifest"),
    ],
)
def test_damaged_pack_is_refused(folder: Path, damage: object, message: str) -> None:
    assert callable(damage)
    damage(folder)
    with pytest.raises(PackError, match=message):
        open_pack(folder)


def test_pack_json_changed_by_hand_is_refused(folder: Path) -> None:
    text = (folder / "pack.json").read_text()
    (folder / "pack.json").write_text(text.replace('"dataset": "nih"', '"dataset": "cxp"'))
    with pytest.raises(PackError, match="its checksum does not fit"):
        open_pack(folder)


def test_manifest_of_another_pack_is_refused(folder: Path, tmp_path: Path) -> None:
    for num_images in (NUM_IMAGES - 2, NUM_IMAGES):
        other = pq.read_table(make_manifest(tmp_path, num_images=num_images))
        pq.write_table(other.take(list(reversed(range(num_images)))), folder / "manifest.parquet")
        with pytest.raises(PackError, match="the manifest of another pack"):
            open_pack(folder)


def test_interrupted_pack_names_resume(tmp_path: Path) -> None:
    (tmp_path / "pack.partial").mkdir()
    with pytest.raises(PackError, match=r"interrupted .*cxr-prep pack --resume"):
        open_pack(tmp_path / "pack")


def test_only_pack_is_the_one_that_can_be_read(folder: Path, tmp_path: Path) -> None:
    workspace = Workspace(home=tmp_path / "home")
    with pytest.raises(PackError, match="no pack of format raw; run `cxr-prep pack --format raw` first"):
        only_pack(workspace, ["raw"])
    (workspace.packs / "nih-8-raw.partial").mkdir(parents=True)
    with pytest.raises(PackError, match=r"nih-8-raw.partial: packing was interrupted; run `cxr-prep pack --resume`"):
        only_pack(workspace, ["raw"])
    shutil.copytree(folder, workspace.packs / "nih-8-raw")
    assert only_pack(workspace, ["raw", "tar"]) == workspace.packs / "nih-8-raw"
    shutil.copytree(folder, workspace.packs / "broken")
    (workspace.packs / "broken" / "pack.json").write_text("{")
    with pytest.raises(PackError, match=r"broken.pack.json: broken .*name the pack that is meant with --pack"):
        only_pack(workspace, ["raw"])
    shutil.rmtree(workspace.packs / "broken")
    shutil.rmtree(workspace.packs / "nih-8-raw.partial")
    with pytest.raises(PackError, match=r"no pack of format tar \(1 of another format\)"):
        only_pack(workspace, ["tar"])
    shutil.copytree(folder, workspace.packs / "nih-9-raw")
    with pytest.raises(PackError, match=r"2 packs; choose one with --pack\n.*nih-8-raw\n.*nih-9-raw"):
        only_pack(workspace, ["raw"])
