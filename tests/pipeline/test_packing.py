"""What packing promises: same bytes always, numbers that never shift, nothing written for input that cannot work."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.errors import ConfigError, ManifestError
from pipeline.cores import usable_cores
from pipeline.encoding import Encoding
from pipeline.errors import PackError
from pipeline.image_spec import ImageSpec
from pipeline.packing.config import PackConfig
from pipeline.packing.formats import FORMATS
from pipeline.packing.outcome import PackSummary
from pipeline.packing.packer import pack_manifest
from pipeline.packing.raw import RawFormat
from pipeline.packing.shard import PackedShard, ShardTask, WrittenShard, finish_shard
from pipeline.packing.shard_cut import MAX_SHARD_BYTES
from pipeline.packing.shard_range import ShardRange
from pipeline.packing.verify import verify_pack
from pipeline.packing.workers import pack_shards
from tests.factories import image_names, image_pixels, make_manifest, make_release

NUM_IMAGES = 200
"""Four shards."""

SIZE_PX = 8

FORMATS_AND_OPTIONS: list[dict[str, object]] = [
    {"format": "raw"},
    {"format": "raw", "spec": ImageSpec(height_px=12, width_px=5, resize="pad")},
    {"format": "tar", "encoding": Encoding(targets="nih14")},
    {"format": "tar", "encoding": Encoding(image="png"), "spec": ImageSpec(height_px=8, width_px=8, bits=16)},
    {"format": "beton", "encoding": Encoding(targets="nvum-nih")},
    {"format": "beton", "encoding": Encoding(colour="rgb")},
]
assert {options["format"] for options in FORMATS_AND_OPTIONS} == set(FORMATS)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("packing"), num_images=NUM_IMAGES, size_px=SIZE_PX)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return make_manifest(tmp_path, num_images=NUM_IMAGES)


def packed(manifest: Path, root: Path, out: Path, **options: object) -> PackSummary:
    config = PackConfig(**({"spec": ImageSpec.square(SIZE_PX)} | options))  # type: ignore[arg-type]
    return pack_manifest(manifest, root=root, out=out, config=config)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def children() -> list[int]:
    """Process numbers of this process's children."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def change_paths(manifest: Path, changes: dict[int, str]) -> None:
    """Give rows of a manifest another path."""
    table = pq.read_table(manifest)
    paths = [changes.get(row, path) for row, path in enumerate(table.column("path").to_pylist())]
    pq.write_table(table.set_column(table.column_names.index("path"), "path", pa.array(paths)), manifest)


@pytest.mark.parametrize("options", FORMATS_AND_OPTIONS, ids=str)
def test_same_bytes_for_any_number_of_workers(
    release: Path, manifest: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    packed(manifest, release, tmp_path / "one", num_workers=1, **options)
    packed(manifest, release, tmp_path / "several", num_workers=3, **options)
    assert contents(tmp_path / "several") == contents(tmp_path / "one")
    assert not list(tmp_path.glob("*.partial"))


def test_same_bytes_from_another_root(release: Path, manifest: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "a folder of another name"
    elsewhere.symlink_to(release)
    packed(manifest, release, tmp_path / "one")
    packed(manifest, elsewhere, tmp_path / "deeper" / "other")
    assert contents(tmp_path / "deeper" / "other") == contents(tmp_path / "one")


def test_rejected_images_keep_their_number(manifest: Path, tmp_path: Path) -> None:
    root = make_release(tmp_path, num_images=NUM_IMAGES, size_px=SIZE_PX)
    names = image_names(NUM_IMAGES)
    (root / "images" / names[3]).unlink()
    (root / "images" / names[64]).write_text("<!DOCTYPE html>")
    (root / "images" / names[199]).write_bytes((root / "images" / names[198]).read_bytes()[:-30])
    summary = packed(manifest, root, tmp_path / "pack", num_workers=2)

    assert summary.pack.rejected == (3, 64, 199)
    assert summary.rejected_by_reason == {"missing_file": 1, "not_an_image": 1, "corrupt": 1}
    rejected = pq.read_table(tmp_path / "pack" / "rejected.parquet").to_pylist()
    assert [row["sample_index"] for row in rejected] == [3, 64, 199]
    assert rejected[0] == {
        "sample_index": 3,
        "image_id": names[3],
        "path": f"images/{names[3]}",
        "reason": "missing_file",
        "num_bytes": None,
        "detail": "no such file",
    }
    expected = image_pixels(NUM_IMAGES, SIZE_PX)
    expected[[3, 64, 199]] = 0
    found = np.concatenate([np.load(summary.pack.shard_path(shard)) for shard in summary.pack.shards])
    np.testing.assert_array_equal(found, expected)
    verify_pack(tmp_path / "pack")


def test_splits_are_packed_in_manifest_order(release: Path, manifest: Path, tmp_path: Path) -> None:
    pack = packed(manifest, release, tmp_path / "pack", splits=("valid", "test")).pack
    table = pq.read_table(manifest)
    rows = [row for row, split in enumerate(table.column("split").to_pylist()) if split in ("valid", "test")]
    assert 0 < len(rows) < NUM_IMAGES
    assert pack.manifest().table.equals(table.take(rows))
    found = np.concatenate([np.load(pack.shard_path(shard)) for shard in pack.shards])
    np.testing.assert_array_equal(found, image_pixels(NUM_IMAGES, SIZE_PX)[rows])


def test_no_image_at_all_leaves_nothing(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PackError, match=r"none of the 200 images can be packed \(missing file 200\).*--root"):
        packed(manifest, tmp_path / "empty", tmp_path / "pack")
    assert sorted(tmp_path.rglob("*")) == before


def test_paths_that_leave_the_root_are_reported_together(release: Path, manifest: Path, tmp_path: Path) -> None:
    change_paths(manifest, {0: "/etc/passwd", 5: "images/../../x.png", 7: "", 199: "images/a..b.png"})
    with pytest.raises(ManifestError, match="3 paths are not below the root") as caught:
        packed(manifest, release, tmp_path / "pack")
    assert caught.value.problems == (
        "row 0: absolute path '/etc/passwd'",
        "row 5: path 'images/../../x.png' climbs with '..'",
        "row 7: empty path",
    )
    assert sorted(tmp_path.iterdir()) == [manifest]


BITS_16 = ImageSpec(height_px=8, width_px=8, bits=16)
RANGE = ShardRange(index=0, count=2)


def without_root(manifest: Path, root: Path, out: Path) -> None:
    packed(manifest, root / "absent", out)


def over_a_pack(manifest: Path, root: Path, out: Path) -> None:
    packed(manifest, root, out)
    packed(manifest, root, out)


def below_a_file(manifest: Path, root: Path, out: Path) -> None:
    packed(manifest, root, manifest / "pack")


def over_this_folder(manifest: Path, root: Path, out: Path) -> None:
    packed(manifest, root, Path())


def of_an_unknown_split(manifest: Path, root: Path, out: Path) -> None:
    packed(manifest, root, out, splits=("trian",))


@pytest.mark.parametrize(
    ("attempt", "kind", "message"),
    [
        (without_root, PackError, "absent: no such folder; name the release's folder with --root"),
        (over_a_pack, PackError, "pack: exists already; name another folder with --out, or delete it"),
        (over_this_folder, PackError, "exists already; name another folder with --out"),
        (below_a_file, PackError, "cannot be written.*name a folder that can be written with --out"),
        (of_an_unknown_split, ConfigError, "--split trian: .* has no such rows; it has test, train, valid"),
    ],
)
def test_message_names_the_repair(
    release: Path,
    manifest: Path,
    tmp_path: Path,
    attempt: Callable[[Path, Path, Path], None],
    kind: type[Exception],
    message: str,
) -> None:
    with pytest.raises(kind, match=message):
        attempt(manifest, release, tmp_path / "pack")
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "zip"}, "--format zip: expected raw, tar, beton"),
        ({"num_workers": 0}, "--workers 0: expected 1 or more"),
        (
            {"encoding": Encoding(colour="rgb")},
            "--colour means nothing here: raw stores gray.*belongs to --format beton",
        ),
        ({"encoding": Encoding(targets="nih14")}, "--with-targets means nothing.*--format tar or --format beton"),
        ({"format": "beton", "encoding": Encoding(quality=90)}, "--quality means nothing here: beton .*--format tar$"),
        ({"format": "tar", "encoding": Encoding(image="png", quality=90)}, "--quality .*: a PNG loses nothing"),
        ({"spec": BITS_16}, "--bits 16: format raw stores 8 bits; only --format tar --image png stores 16"),
        ({"spec": BITS_16, "format": "tar"}, "--bits 16: a JPEG stores 8 bits; add --image png"),
        ({"finish": True, "shard_range": RANGE}, "--finish joins what all ranges have packed; take away --shard-range"),
        ({"engine": "ray", "shard_range": RANGE}, "--engine ray shares out the shards itself"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PackConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("size_px", [0, 8193])
def test_impossible_sizes_are_refused(size_px: int) -> None:
    with pytest.raises(ConfigError, match=f"--size {size_px}: expected 1 to 8192 px"):
        ImageSpec.square(size_px)


def test_quality_is_a_percentage() -> None:
    with pytest.raises(ConfigError, match="--quality 101: expected 1 to 100"):
        Encoding(quality=101)


def test_workers_default_to_the_usable_cores() -> None:
    assert usable_cores() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("num_samples", "size_px"), [(1, 256), (112, 64), (112_120, 256), (10**7, 512), (50, 8192)])
def test_shards_are_bounded_and_cover_the_pack(num_samples: int, size_px: int) -> None:
    step = RawFormat().samples_per_shard(num_samples, ImageSpec.square(size_px), Encoding())
    assert 1 <= step <= max(MAX_SHARD_BYTES // size_px**2, 1)
    assert -(-num_samples // step) >= min(64, -(-num_samples // 64))  # enough of them for many processes


def test_killed_worker_is_an_error_and_no_hang(release: Path, manifest: Path, tmp_path: Path) -> None:
    killed: list[int] = []
    others = {*children()}  # whatever earlier tests have left running

    def kill_workers(done: int, total: int) -> None:  # two of four shards are still waiting at the first call
        for child in [] if killed else {*children()} - others:
            os.kill(child, signal.SIGKILL)
            killed.append(child)

    config = PackConfig(spec=ImageSpec.square(SIZE_PX), num_workers=2)
    with pytest.raises(PackError, match=r"was killed by SIGKILL.*--workers.*continue with --resume"):
        pack_manifest(manifest, root=release, out=tmp_path / "pack", config=config, on_progress=kill_workers)
    assert not (tmp_path / "pack").exists()
    assert len(killed) == 2
    assert not set(killed) & set(children())

    packed(manifest, release, tmp_path / "pack", resume=True)
    packed(manifest, release, tmp_path / "undisturbed")
    assert contents(tmp_path / "pack") == contents(tmp_path / "undisturbed")


def small_tasks(release: Path, folder: Path, taken: list[int]) -> Iterator[ShardTask]:
    """Yield 12 tasks of an image each; `taken` notes those that were asked for."""
    for number in range(12):
        taken.append(number)
        yield ShardTask(
            file=folder / f"shard-{number}.npy",
            checksums=folder / f"shard-{number}.bin",
            sidecar=folder / f"shard-{number}.json",
            format="raw",
            spec=ImageSpec.square(SIZE_PX),
            encoding=Encoding(),
            first_index=number,
            files=(release / "images" / image_names(NUM_IMAGES)[number],),
        )


def test_only_the_shards_at_work_are_in_memory(release: Path, tmp_path: Path) -> None:
    """A pack of millions of images has tasks of millions of paths: they are made when a process is free."""
    taken: list[int] = []
    for count, _ in enumerate(pack_shards(small_tasks(release, tmp_path, taken), 12, 2, lambda images: None), start=1):
        assert len(taken) <= count + 2
    assert count == 12


def test_no_process_waits_while_the_disk_takes_a_shard(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    taken_when_flushed = []

    def noted(task: ShardTask, written: WrittenShard) -> PackedShard:
        assert not task.file.exists()
        taken_when_flushed.append(len(taken))
        return finish_shard(task, written)

    monkeypatch.setattr("pipeline.packing.workers.finish_shard", noted)
    for packed_shard in pack_shards(small_tasks(release, tmp_path, taken), 12, 2, lambda images: None):
        assert (tmp_path / packed_shard.file).exists()
    assert taken_when_flushed == [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 12, 12]


def test_workers_import_nothing_heavy() -> None:
    heavy = ["torch", "polars", "pyarrow", "typer", "rich", "sklearn", "matplotlib"]
    code = f"import sys, pipeline.packing.worker; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_pack_names_no_place_and_no_time(release: Path, manifest: Path, tmp_path: Path) -> None:
    packed(manifest, release, tmp_path / "pack")
    document = json.loads((tmp_path / "pack" / "pack.json").read_text())
    assert set(document) == {
        "schema", "format", "spec", "encoding", "pixel_rule", "dataset", "identity", "num_samples", "rejected",
        "shards", "manifest_sha256", "rejected_sha256", "checksums_sha256", "target_names", "checksum",
    }  # fmt: skip
    assert not any(str(release).encode() in content for content in contents(tmp_path / "pack").values())
