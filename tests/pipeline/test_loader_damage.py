"""What loaders do about damaged packs: checksums compared beside the first pass, images that do not decode."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import PackError
from pipeline.loaders import LoadedStep, Loader
from pipeline.loaders.verification import ShardVerification
from pipeline.pack import Pack
from pipeline.tar_index import read_tar_index
from tests.factories import make_pack
from tests.loader_cases import CASES_WITH_PIXELS, Case, Packs, opened, over, write_packs
from tests.raw_pack import numbered_images, write_raw_pack

NUM_IMAGES, SIZE_PX = 90, 64
STORED = [case for case in CASES_WITH_PIXELS if case.pack_format != "tar"]
DECODED = [case for case in CASES_WITH_PIXELS if case.pack_format == "tar"]
CORRUPT = (41, 44, 88)
"""Two in one shard, one in the last."""


@pytest.fixture
def packs(tmp_path: Path) -> Packs:
    return write_packs(tmp_path, numbered_images(NUM_IMAGES, SIZE_PX), rows_per_shard=40)


def flip_a_bit(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def flip_a_bit_of_the_last_shard(pack: Pack) -> str:
    """Change a pixel of the last shard; return the shard's name."""
    path = pack.shard_path(pack.shards[-1])
    flip_a_bit(path, path.stat().st_size // 2)
    return path.name


@over(STORED)
def test_a_flipped_bit_ends_the_first_epoch(case: Case, packs: Packs) -> None:
    shard = flip_a_bit_of_the_last_shard(packs[case.pack_format])
    with (
        opened(packs, case) as loader,
        pytest.raises(PackError, match=rf"{shard}: the shard was changed.*expected.*cxr-prep verify"),
    ):
        list(loader.train_batches(0))


@over(STORED)
def test_no_verify_trains_on_what_is_there(case: Case, packs: Packs) -> None:
    flip_a_bit_of_the_last_shard(packs[case.pack_format])
    with opened(packs, case, verify=False) as loader:
        assert len(list(loader.train_batches(0))) == loader.num_steps()


def test_each_shard_is_read_once_whatever_the_passes(packs: Packs, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    works = ShardVerification._checksum

    def noted(*arguments: object) -> str:
        read.append(arguments[1].file)  # type: ignore[attr-defined]
        return works(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ShardVerification, "_checksum", noted)
    with opened(packs, Case("raw", "raw")) as loader:
        assert not read
        next(loader.train_batches(0))  # left in the middle: it goes on with the next pass
        for epoch in range(3):
            list(loader.train_batches(epoch))
        list(loader.ordered_batches())
    assert sorted(read) == [shard.file for shard in packs["raw"].shards]


def test_damage_that_is_known_ends_the_epoch_with_the_next_step(packs: Packs) -> None:
    shard = flip_a_bit_of_the_last_shard(packs["raw"])
    given = []

    def take_and_wait(loader: Loader) -> None:
        for step in loader.train_batches(0):
            given.append(step)
            deadline_s = time.monotonic() + 60
            while loader._verification._error is None and time.monotonic() < deadline_s:  # type: ignore[attr-defined]
                time.sleep(0.001)

    with opened(packs, Case("raw", "raw")) as loader, pytest.raises(PackError, match=shard):
        take_and_wait(loader)
    assert len(given) <= 1


def test_a_shard_that_goes_away_under_the_check_is_named(packs: Packs, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packs["raw"].shard_path(packs["raw"].shards[1])
    with opened(packs, Case("raw", "raw")) as loader:
        path.unlink()
        with pytest.raises(PackError, match=rf"{path.name}: cannot be read \(No such file.*cxr-prep verify"):
            list(loader.train_batches(0))


def test_closing_does_not_wait_for_the_rest_of_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.loaders.verification.CHUNK_BYTES", 1)
    pack = write_raw_pack(tmp_path, np.zeros((64, 256, 256), np.uint8), rows_per_shard=64)
    with opened({"raw": pack}, Case("raw", "raw")) as loader:
        next(loader.train_batches(0))
        verification = loader._verification  # type: ignore[attr-defined]
        assert verification._thread.is_alive()
    assert not verification._thread.is_alive()


def damage(pack: Pack, sample_index: int, *, how: str) -> None:
    """Change the file of one sample of a tar pack so that it does not decode; its place and length stay."""
    index = read_tar_index(pack)
    offset, num_bytes = int(index.offset_N[sample_index]), int(index.num_bytes_N[sample_index])
    with index.files[index.shard_N[sample_index]].open("r+b") as file:
        file.seek(offset + (0 if how == "not an image" else num_bytes // 2))
        file.write(bytes(num_bytes - (0 if how == "not an image" else num_bytes // 2)))


@over(DECODED)
@pytest.mark.parametrize("how", ["not an image", "second half lost"])
def test_an_image_that_does_not_decode_is_named(case: Case, how: str, packs: Packs) -> None:
    damage(packs["tar"], CORRUPT[0], how=how)
    named = rf"tar/shard-00001\.tar: sample_index {CORRUPT[0]} is damaged: cannot be decoded \(.+\)"
    expected = rf"{named}; run `cxr-prep verify .*/tar`"
    with opened(packs, case) as loader:
        with pytest.raises(PackError, match=f"{expected}.*--on-corrupt skip"):
            list(loader.train_batches(0))
        with pytest.raises(PackError, match=expected):  # a second attempt says the same
            list(loader.train_batches(0))


@over(DECODED)
def test_skipped_images_are_black_under_no_index_and_counted(
    case: Case, packs: Packs, caplog: pytest.LogCaptureFixture
) -> None:
    for sample_index in CORRUPT:
        damage(packs["tar"], sample_index, how="second half lost")
    whole = numbered_images(NUM_IMAGES, SIZE_PX)
    with opened(packs, case, batch_size=8, on_corrupt="skip") as loader, opened(packs, case, batch_size=8) as undamaged:
        assert not loader.skipped_samples
        order = [undamaged.indices_of(step) for step in undamaged_steps(undamaged)]  # type: ignore[attr-defined]
        for epoch in range(3):
            steps = list(loader.train_batches(epoch))
            assert loader.skipped_samples == CORRUPT
            assert sorted(seen(steps)) == sorted([-1] * 3 + [i for i in range(NUM_IMAGES) if i not in CORRUPT])
            for step in steps:
                check_pixels(step, whole)
            if epoch == 0:
                for step, index_B in zip(steps, order, strict=True):
                    expected_B = np.where(np.isin(index_B, CORRUPT), -1, index_B)
                    np.testing.assert_array_equal(step.batch.sample_index_B.numpy(), expected_B)
            assert steps[-1].consumed == NUM_IMAGES
    skipped = [record.message for record in caplog.records if "skipped" in record.message]
    assert len(skipped) == len(CORRUPT)  # each is said once, not once an epoch


def undamaged_steps(loader: object) -> Iterator[object]:
    from pipeline.order import epoch_order

    return epoch_order(NUM_IMAGES, epoch=0, seed=11, batch_size=8)


def seen(steps: list[LoadedStep]) -> list[int]:
    return [index for step in steps for index in step.batch.sample_index_B.tolist()]


def check_pixels(step: LoadedStep, images_NHW: np.ndarray) -> None:
    for image_1HW, sample_index in zip(step.batch.images_B1HW, step.batch.sample_index_B.tolist(), strict=True):
        expected_HW = np.zeros((SIZE_PX, SIZE_PX), np.uint8) if sample_index < 0 else images_NHW[sample_index]
        np.testing.assert_array_equal(image_1HW[0].numpy(), expected_HW)


@over(DECODED)
def test_a_pack_of_damaged_images_only_is_skipped_whole(case: Case, packs: Packs) -> None:
    for sample_index in range(0, 12):
        damage(packs["tar"], sample_index, how="not an image")
    with opened(packs, case, np.arange(12), on_corrupt="skip") as loader:
        for epoch in range(2):
            assert seen(list(loader.train_batches(epoch))) == [-1] * 12
        assert not any(step.batch.images_B1HW.any() for step in loader.ordered_batches())
    assert loader.skipped_samples == tuple(range(12))


@over(DECODED)
def test_an_image_of_another_size_does_not_decode(case: Case, packs: Packs, tmp_path: Path) -> None:
    """Somebody put another file into the tar: a part of an image must never be taken for one."""
    smaller = write_packs(tmp_path / "smaller", numbered_images(NUM_IMAGES, SIZE_PX // 2), rows_per_shard=40)["tar"]
    source, target = read_tar_index(smaller), read_tar_index(packs["tar"])
    content = source.files[0].read_bytes()[source.offset_N[5] :][: source.num_bytes_N[5]]
    with target.files[0].open("r+b") as file:
        file.seek(int(target.offset_N[5]))
        file.write(content)
    with opened(packs, case) as loader, pytest.raises(PackError, match="sample_index 5 is damaged: cannot be decoded"):
        list(loader.train_batches(0))


@over(CASES_WITH_PIXELS)
def test_rejected_images_are_black_under_their_index(case: Case, tmp_path: Path) -> None:
    """Selections leave them out; who asks for them all the same gets the same from every backend."""
    rejected = (0, 1, 2, 3, 17, 40)  # a whole step of the ordered pass among them
    images_NHW = numbered_images(50, 8)
    packs = write_packs(tmp_path, images_NHW, rows_per_shard=20, rejected=rejected)
    with opened(packs, case) as loader:
        steps = [*loader.train_batches(0), *loader.ordered_batches()]
    for step in steps:
        for image_1HW, sample_index in zip(step.batch.images_B1HW, step.batch.sample_index_B.tolist(), strict=True):
            expected_HW = np.zeros((8, 8)) if sample_index in rejected else images_NHW[sample_index]
            np.testing.assert_array_equal(image_1HW[0].numpy(), expected_HW)
    assert torch.cat([step.batch.sample_index_B for step in steps]).sort().values.tolist() == sorted(2 * [*range(50)])


@over(DECODED)
def test_a_missing_or_damaged_index_is_refused(case: Case, packs: Packs) -> None:
    if case.backend == "reference":  # reads the tar itself
        packs["tar"].shard_path(packs["tar"].shards[0]).write_bytes(b"no tar" * 100)
        with opened(packs, case) as loader, pytest.raises(PackError, match=r"shard-00000\.tar: not a tar shard"):
            list(loader.train_batches(0))
        return
    index = packs["tar"].shard_path(packs["tar"].shards[1]).with_suffix(".idx")
    index.write_bytes(index.read_bytes().replace(b"v1.2", b"v1.3"))
    with pytest.raises(PackError, match=r"shard-00001\.idx: not the index"):
        opened(packs, case)


@over(DECODED)
def test_a_changed_jpeg_is_noticed_though_it_decodes(case: Case, tmp_path: Path) -> None:
    pack = make_pack(tmp_path, num_images=24, pack_format="tar")
    index = read_tar_index(pack)
    flip_a_bit(index.files[0], int(index.offset_N[7] + index.num_bytes_N[7] * 3 // 4))
    packs: Packs = {"tar": pack}
    expected = r"shard-00000\.tar: sample_index 7 is damaged: its checksum is [0-9a-f]{8}, expected [0-9a-f]{8}"
    with opened(packs, case) as loader, pytest.raises(PackError, match=rf"{expected}.*cxr-prep verify"):
        list(loader.train_batches(0))
    with opened(packs, case, on_corrupt="skip") as loader:
        for epoch in range(2):
            assert seen(list(loader.train_batches(epoch))).count(-1) == 1
        assert loader.skipped_samples == (7,)
    with opened(packs, case, verify=False) as loader:
        assert sorted(seen(list(loader.train_batches(0)))) == list(range(24))


@over(DECODED)
def test_damaged_checksums_are_refused(case: Case, tmp_path: Path) -> None:
    pack = make_pack(tmp_path, num_images=24, pack_format="tar")
    flip_a_bit(pack.folder / "checksums.parquet", 100)
    with pytest.raises(PackError, match=r"checksums\.parquet: damaged.*cxr-prep verify"):
        opened({"tar": pack}, case)
    opened({"tar": pack}, case, verify=False).close()


@over([Case("resident", "beton"), Case("ffcv", "beton"), Case("reference", "beton")])
def test_a_beton_of_another_layout_is_refused(case: Case, packs: Packs) -> None:
    flip_a_bit(packs["beton"].shard_path(packs["beton"].shards[0]), 2)  # the number of fields
    with pytest.raises(PackError, match=r"pack\.beton: not the beton of this pack"), opened(packs, case) as loader:
        list(loader.train_batches(0))
