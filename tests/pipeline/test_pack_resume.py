"""Continuing an interrupted pack: only the same one, keeping what is finished and sound."""

import errno
import fcntl
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.encoding import Encoding
from pipeline.errors import PackError
from pipeline.image_spec import ImageSpec
from pipeline.packing import packer, shard_cut
from pipeline.packing.partial import PartialPack
from pipeline.packing.pixels import PIXEL_RULE
from tests.factories import image_names, make_manifest, make_release
from tests.pack_lock import held_by_another_process
from tests.pipeline.small_packs import SIZE_PX, contents, pack_into

NUM_IMAGES = 12


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_cut, "MIN_SHARD_SAMPLES", 4)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Twelve images in three shards; the manifest lies beside them."""
    make_manifest(tmp_path, num_images=NUM_IMAGES)
    return make_release(tmp_path, num_images=NUM_IMAGES, size_px=SIZE_PX)


@pytest.fixture
def interrupted(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PartialPack:
    """All shards finished; stopped before pack.json was written."""
    with monkeypatch.context() as patch:
        patch.setattr(packer, "describe", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pack_into(tmp_path / "pack", release)
    partial = PartialPack.of(tmp_path / "pack")
    assert len(list(partial.finished.iterdir())) == 3
    return partial


def test_finished_shards_are_kept(release: Path, interrupted: PartialPack, tmp_path: Path) -> None:
    summary = pack_into(interrupted.out, release, resume=True)
    assert summary.num_resumed == NUM_IMAGES
    pack_into(tmp_path / "undisturbed", release)
    assert contents(interrupted.out) == contents(tmp_path / "undisturbed")


def test_resume_without_anything_to_resume_packs(release: Path, tmp_path: Path) -> None:
    assert pack_into(tmp_path / "pack", release, resume=True).num_resumed == 0


@pytest.mark.parametrize("how", ["resume", "finish"])
def test_a_complete_pack_is_complete(release: Path, tmp_path: Path, how: str) -> None:
    (release / "images" / image_names(NUM_IMAGES)[3]).write_bytes(b"not a film")
    first = pack_into(tmp_path / "pack", release)
    before = contents(tmp_path / "pack")
    again = pack_into(tmp_path / "pack", release, **{how: True})
    assert (again.pack, again.num_resumed) == (first.pack, NUM_IMAGES)
    assert again.rejected_by_reason == first.rejected_by_reason == {"not_an_image": 1}
    assert contents(tmp_path / "pack") == before
    assert not PartialPack.of(tmp_path / "pack").folder.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spec": ImageSpec(height_px=7, width_px=5)}, "--size was 6, is now 7x5$"),
        ({"splits": ("train",)}, "identity was .*, is now .*$"),
        ({"format": "beton"}, "--format was raw, is now beton\n  --colour was not there, is now gray"),
    ],
)
def test_a_complete_pack_of_something_else_is_refused(
    release: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    pack_into(tmp_path / "pack", release)
    before = contents(tmp_path / "pack")
    with pytest.raises(PackError, match=f"pack: a complete pack of something else; name another .*\n  {message}"):
        pack_into(tmp_path / "pack", release, resume=True, **options)
    assert contents(tmp_path / "pack") == before


def test_a_complete_pack_with_other_labels_is_refused(release: Path, tmp_path: Path) -> None:
    pack_into(tmp_path / "pack", release)
    manifest = release.parent / "nih.parquet"
    table = pq.read_table(manifest)
    number = table.schema.get_field_index("view")
    other = pa.array(["AP"] * table.num_rows, table.schema.field(number).type)
    pq.write_table(table.set_column(number, table.schema.field(number), other), manifest)
    with pytest.raises(PackError, match="same images and other labels"):
        pack_into(tmp_path / "pack", release, resume=True)


def test_interrupted_pack_is_not_touched_unasked(release: Path, interrupted: PartialPack) -> None:
    before = contents(interrupted.pack)
    with pytest.raises(PackError, match="continue it with --resume, or delete it to start over"):
        pack_into(interrupted.out, release)
    assert contents(interrupted.pack) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spec": ImageSpec.square(7)}, "--size was 6, is now 7$"),
        ({"splits": ("train",)}, "identity was .*, is now .*\n  num_samples was 12, is now 6"),
        ({"spec": ImageSpec(height_px=6, width_px=6, resize="pad")}, "--resize was square, is now pad$"),
        ({"spec": ImageSpec(height_px=6, width_px=6, exact=True)}, "--exact was False, is now True$"),
        (
            {"format": "tar", "encoding": Encoding(image="png")},
            "--format was raw, is now tar\n  --image was not there, is now png\n"
            "  --with-targets was not there, is now None",
        ),
    ],
)
def test_another_pack_is_not_continued(
    release: Path, interrupted: PartialPack, options: dict[str, object], message: str
) -> None:
    before = contents(interrupted.pack)
    with pytest.raises(PackError, match=f"an interrupted pack of something else.*\n  {message}"):
        pack_into(interrupted.out, release, resume=True, **options)
    assert contents(interrupted.pack) == before


def test_other_pixel_rule_is_not_continued(
    release: Path, interrupted: PartialPack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.packing.plan.PIXEL_RULE", "another")
    with pytest.raises(PackError, match=f"pixel_rule was {PIXEL_RULE}, is now another"):
        pack_into(interrupted.out, release, resume=True)


def test_broken_plan_is_said(release: Path, interrupted: PartialPack) -> None:
    interrupted.plan_file.write_text("[1")
    with pytest.raises(PackError, match=r"plan.json is broken; delete the folder and start over"):
        pack_into(interrupted.out, release, resume=True)


def cut_the_shard(partial: PartialPack) -> None:
    os.truncate(partial.pack / "shard-00001.npy", 100)


def flip_a_byte(partial: PartialPack) -> None:
    path = partial.pack / "shard-00001.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def lose_the_shard(partial: PartialPack) -> None:
    (partial.pack / "shard-00001.npy").unlink()


def lose_the_sidecar(partial: PartialPack) -> None:
    partial.sidecar(1).unlink()


def break_the_sidecar(partial: PartialPack) -> None:
    partial.sidecar(1).write_text('{"file": ')


def lose_the_checksums(partial: PartialPack) -> None:
    partial.checksums_file(1).unlink()


def cut_the_checksums(partial: PartialPack) -> None:
    os.truncate(partial.checksums_file(1), 20)


def change_the_sidecar(partial: PartialPack) -> None:
    partial.sidecar(1).write_text('{"rejected": [{"colour": "red"}]}')


DAMAGES = [
    cut_the_shard,
    flip_a_byte,
    lose_the_shard,
    lose_the_sidecar,
    break_the_sidecar,
    change_the_sidecar,
    lose_the_checksums,
    cut_the_checksums,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_shard_is_packed_again(release: Path, interrupted: PartialPack, tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    damage(interrupted)
    assert pack_into(interrupted.out, release, resume=True).num_resumed == 8
    pack_into(tmp_path / "undisturbed", release)
    assert contents(interrupted.out) == contents(tmp_path / "undisturbed")


def test_a_shard_without_its_index_is_packed_again(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(packer, "describe", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pack_into(tmp_path / "pack", release, format="tar")
    (PartialPack.of(tmp_path / "pack").pack / "shard-00002.idx").unlink()
    assert pack_into(tmp_path / "pack", release, format="tar", resume=True).num_resumed == 8
    pack_into(tmp_path / "undisturbed", release, format="tar")
    assert contents(tmp_path / "pack") == contents(tmp_path / "undisturbed")


def test_files_that_came_back_are_packed(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = release / "images" / image_names(NUM_IMAGES)[5]
    hidden = image.rename(tmp_path / "hidden.png")
    with monkeypatch.context() as patch:
        patch.setattr(packer, "describe", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pack_into(tmp_path / "pack", release)
        with pytest.raises(KeyboardInterrupt):  # still missing: nothing is packed again
            pack_into(tmp_path / "pack", release, resume=True)
    hidden.rename(image)
    summary = pack_into(tmp_path / "pack", release, resume=True)
    assert summary.num_resumed == 8
    assert summary.pack.rejected == ()


def test_two_processes_never_pack_into_one_folder(release: Path, interrupted: PartialPack) -> None:
    with (
        held_by_another_process(interrupted, range(1, 2)),
        pytest.raises(PackError, match="another process is packing here"),
    ):
        pack_into(interrupted.out, release, resume=True)
    pack_into(interrupted.out, release, resume=True)


def test_a_file_system_without_locks_is_said(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.lockf", refuse)
    with pytest.raises(PackError, match=r"knows no locks \(No locks available\); name a folder on another with --out"):
        pack_into(tmp_path / "pack", release)


def test_who_comes_while_the_pack_is_published_is_refused(
    release: Path, interrupted: PartialPack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock would be one on a file that nobody else can see any more."""
    locked = fcntl.lockf

    def publish_first(descriptor: int, *arguments: int) -> None:
        interrupted.lock_file.unlink(missing_ok=True)
        locked(descriptor, *arguments)

    monkeypatch.setattr("fcntl.lockf", publish_first)
    with pytest.raises(PackError, match="another process is packing here"):
        pack_into(interrupted.out, release, resume=True)


def test_files_of_others_are_never_removed(release: Path, interrupted: PartialPack) -> None:
    (interrupted.folder / "thesis.txt").write_text("mine")
    pack_into(interrupted.out, release, resume=True)
    assert (interrupted.folder / "thesis.txt").read_text() == "mine"
