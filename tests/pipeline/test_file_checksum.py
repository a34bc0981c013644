"""Checksums of shards: by an algorithm that they name; packs with SHA-256 are read and checked as they always were."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DamagedPackError, PackError
from pipeline.file_checksum import ALGORITHM, FileChecksum, file_checksum, shown
from pipeline.loaders.config import LoaderConfig
from pipeline.loaders.registry import open_loader
from pipeline.pack import SCHEMA_OF_SHA256, Pack, open_pack, read_pack_json
from pipeline.packing.verify import verify_pack
from tests.factories import make_pack

NUM_IMAGES = 70


def test_digits_are_frozen() -> None:
    assert str(FileChecksum()) == "xxh3_128:99aa06d3014798d86001c324468d497f"  # as the xxHash library has it
    assert str(FileChecksum("sha256")) == f"sha256:{hashlib.sha256().hexdigest()}"
    assert shown(str(FileChecksum())) == "99aa06d30147"


@given(pieces=st.lists(st.binary(max_size=40)), algorithm=st.sampled_from([ALGORITHM, "sha256"]))
def test_pieces_make_no_difference(pieces: list[bytes], algorithm: str) -> None:
    whole, piecewise = FileChecksum(algorithm), FileChecksum(algorithm)
    whole.update(b"".join(pieces))
    for piece in pieces:
        piecewise.update(memoryview(piece))
    assert str(whole) == str(piecewise)


@given(content=st.binary(min_size=1, max_size=600), data=st.data())
def test_every_flipped_bit_is_found(content: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    checksums = [FileChecksum(), FileChecksum()]
    for checksum, each in zip(checksums, (content, bytes(changed)), strict=True):
        checksum.update(each)
    assert str(checksums[0]) != str(checksums[1])


def test_a_file_longer_than_a_read_has_one_checksum(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes((2 << 20) + 1)
    (tmp_path / "file").write_bytes(content)
    assert file_checksum(tmp_path / "file", like="sha256:") == f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return make_pack(tmp_path, num_images=NUM_IMAGES, size_px=8)


@pytest.fixture
def older(pack: Pack) -> Pack:
    """The same pack as the version before wrote it."""
    shards = tuple(
        replace(shard, checksum=file_checksum(pack.shard_path(shard), like="sha256:")) for shard in pack.shards
    )
    older = replace(pack, schema=SCHEMA_OF_SHA256, shards=shards)
    (pack.folder / "pack.json").write_bytes(older.to_json())
    return older


def read_all(pack: Pack) -> None:
    config = LoaderConfig(backend="raw", batch_size=32)
    with open_loader(config, pack=pack, sample_index_n=np.arange(NUM_IMAGES), seed=0) as loader:
        assert len(list(loader.train_batches(0))) == loader.num_steps()


def test_new_packs_name_their_algorithm(pack: Pack) -> None:
    document = json.loads((pack.folder / "pack.json").read_bytes())
    assert document["schema"] == "cxr-pack/3"
    for shard in document["shards"]:
        assert shard["checksum"] == file_checksum(pack.folder / shard["file"], like=ALGORITHM)
        assert shard["checksum"].startswith("xxh3_128:")


def test_packs_with_sha256_are_read_and_stay_what_they_are(older: Pack) -> None:
    document = json.loads((older.folder / "pack.json").read_bytes())
    content = (older.folder / "shard-00000.npy").read_bytes()
    assert document["schema"] == "cxr-pack/2"
    assert list(document["shards"][0]) == ["file", "first_index", "num_samples", "num_bytes", "sha256", "side_files"]
    assert document["shards"][0]["sha256"] == hashlib.sha256(content).hexdigest()
    assert open_pack(older.folder) == older
    assert verify_pack(older.folder) == older
    read_all(older)


def test_damage_in_packs_with_sha256_is_found(older: Pack) -> None:
    path = older.folder / "shard-00001.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedPackError, match=r"shard-00001.npy: changed: its checksum is .* sample_index 69"):
        verify_pack(older.folder)
    with pytest.raises(PackError, match=r"shard-00001.npy: the shard was changed"):
        read_all(older)


def test_an_algorithm_that_is_not_known_is_named(pack: Pack) -> None:
    shards = tuple(replace(shard, checksum="md5:0") for shard in pack.shards)
    (pack.folder / "pack.json").write_bytes(replace(pack, shards=shards).to_json())
    with pytest.raises(PackError, match=r"checksum by 'md5', known are xxh3_128 and sha256"):
        read_pack_json(pack.folder)
