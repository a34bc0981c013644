"""A pack that several processes pack, each its range of the shards: same bytes, no shard twice, none forgotten."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import ConfigError
from manifests.workspace import Workspace
from pipeline.errors import PackError
from pipeline.image_spec import ImageSpec
from pipeline.pack_format import PackFormat
from pipeline.packing import shard_cut
from pipeline.packing.config import PackConfig
from pipeline.packing.formats import FORMATS
from pipeline.packing.outcome import PackSummary, RangeSummary
from pipeline.packing.packer import pack_manifest, pack_range
from pipeline.packing.partial import PartialPack
from pipeline.packing.shard_range import ShardRange
from pipeline.packing.verify import verify_pack
from tests.factories import image_names, make_manifest, make_release
from tests.pack_lock import held_by_another_process
from tests.pipeline.test_pack_cli import run

NUM_IMAGES = 22
"""Six shards."""

SIZE_PX = 6


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_cut, "MIN_SHARD_SAMPLES", 4)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, two of them broken; the manifest lies beside them."""
    folder = tmp_path_factory.mktemp("ranges")
    make_manifest(folder, num_images=NUM_IMAGES)
    root = make_release(folder, num_images=NUM_IMAGES, size_px=SIZE_PX)
    for index in (1, 20):
        (root / "images" / image_names(NUM_IMAGES)[index]).write_bytes(b"no film")
    return root


def whole(out: Path, release: Path, pack_format: PackFormat = "raw", **options: object) -> PackSummary:
    fields = {"format": pack_format, "spec": ImageSpec.square(SIZE_PX)} | options
    config = PackConfig(**fields)  # type: ignore[arg-type]
    return pack_manifest(release.parent / "nih.parquet", root=release, out=out, config=config)


def part(out: Path, release: Path, text: str, pack_format: PackFormat = "raw") -> RangeSummary:
    config = PackConfig(format=pack_format, spec=ImageSpec.square(SIZE_PX), shard_range=ShardRange.parse(text))
    return pack_range(release.parent / "nih.parquet", root=release, out=out, config=config)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@given(num_shards=st.integers(1, 300), count=st.integers(1, 400))
def test_ranges_share_out_every_shard_once_and_evenly(num_shards: int, count: int) -> None:
    ranges = [ShardRange(index=index, count=count).numbers(num_shards) for index in range(count)]
    assert [number for numbers in ranges for number in numbers] == list(range(num_shards))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


@pytest.mark.parametrize("text", ["3", "2/2", "-1/2", "0/0", "a/b", "1/2/3", "/2", "\u00b2/9"])
def test_other_texts_are_no_ranges(text: str) -> None:
    with pytest.raises(ConfigError, match="expected i/n with i from 0 to n - 1"):
        ShardRange.parse(text)


@pytest.mark.parametrize("pack_format", sorted(FORMATS))
def test_two_ranges_and_finish_are_the_whole(release: Path, tmp_path: Path, pack_format: PackFormat) -> None:
    whole(tmp_path / "whole", release, pack_format)
    out = tmp_path / "pack"
    second = part(out, release, "1/2", pack_format)  # in any order
    first = part(out, release, "0/2", pack_format)
    assert (first.num_samples, second.num_samples) == (12, 10)
    assert (first.num_shards, second.num_shards) == (3, 3)
    assert first.rejected_by_reason == second.rejected_by_reason == {"not_an_image": 1}
    summary = whole(out, release, pack_format, finish=True)
    assert summary.num_resumed == NUM_IMAGES
    assert contents(out) == contents(tmp_path / "whole")
    assert not PartialPack.of(out).folder.exists()
    verify_pack(out)


def test_finish_opens_no_image(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part(tmp_path / "pack", release, "0/1")
    monkeypatch.setattr("pipeline.packing.shard.read_image", None)
    assert whole(tmp_path / "pack", release, finish=True).pack.num_samples == NUM_IMAGES


def test_more_ranges_than_shards(release: Path, tmp_path: Path) -> None:
    sizes = [part(tmp_path / "pack", release, f"{index}/9").num_samples for index in range(9)]
    assert sum(sizes) == NUM_IMAGES
    assert 0 in sizes
    whole(tmp_path / "pack", release, finish=True)


def test_a_range_run_again_keeps_what_it_finished(release: Path, tmp_path: Path) -> None:
    part(tmp_path / "pack", release, "1/3")
    PartialPack.of(tmp_path / "pack").sidecar(3).unlink()
    again = part(tmp_path / "pack", release, "1/3")
    assert (again.num_samples, again.num_resumed) == (8, 4)


def test_finish_names_what_is_missing(release: Path, tmp_path: Path) -> None:
    with pytest.raises(PackError, match="nothing to finish; pack its ranges first"):
        whole(tmp_path / "pack", release, finish=True)
    assert not list(tmp_path.iterdir())
    part(tmp_path / "pack", release, "0/3")
    part(tmp_path / "pack", release, "2/3")
    PartialPack.of(tmp_path / "pack").sidecar(5).unlink()
    message = (
        r"3 of 6 shards are missing or damaged \(2, 3, 5\); run the same command with --resume in place of --finish, "
        "or again with --shard-range 1/3, --shard-range 2/3"
    )
    with pytest.raises(PackError, match=message):
        whole(tmp_path / "pack", release, finish=True)
    assert whole(tmp_path / "pack", release, resume=True).num_resumed == 12


def test_finish_reads_every_shard_again_unless_told_not_to(release: Path, tmp_path: Path) -> None:
    part(tmp_path / "pack", release, "0/1")
    shard = PartialPack.of(tmp_path / "pack").pack / "shard-00004.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(PackError, match=r"1 of 6 shards are missing or damaged \(4\)"):
        whole(tmp_path / "pack", release, finish=True)
    whole(tmp_path / "pack", release, finish=True, verify="none")  # sizes fit
    with pytest.raises(PackError, match=r"shard-00004\.npy: changed"):
        verify_pack(tmp_path / "pack")


def test_one_range_is_packed_by_one_process(release: Path, tmp_path: Path) -> None:
    part(tmp_path / "pack", release, "0/3")
    partial = PartialPack.of(tmp_path / "pack")
    with held_by_another_process(partial, range(2, 4)):  # 1/3
        part(tmp_path / "pack", release, "2/3")
        for text in ("1/3", "1/2", "2/6"):  # whatever it is called
            with pytest.raises(PackError, match="another process is packing here"):
                part(tmp_path / "pack", release, text)
        for finish in (True, False):
            with pytest.raises(PackError, match="another process is packing here"):
                whole(tmp_path / "pack", release, finish=finish, resume=not finish)
    part(tmp_path / "pack", release, "1/3")


def test_a_range_of_another_pack_is_refused(release: Path, tmp_path: Path) -> None:
    part(tmp_path / "pack", release, "0/2")
    with pytest.raises(PackError, match=r"an interrupted pack of something else.*\n  --format was raw, is now tar"):
        part(tmp_path / "pack", release, "1/2", "tar")


def test_half_written_files_of_other_ranges_stay(release: Path, tmp_path: Path) -> None:
    part(tmp_path / "pack", release, "0/2")
    folder = PartialPack.of(tmp_path / "pack").pack
    mine, theirs = folder / ".shard-00001.npy.77.partial", folder / ".shard-00004.npy.77.partial"
    for path in (mine, theirs):
        path.write_bytes(b"half")
    part(tmp_path / "pack", release, "0/2")
    assert theirs.exists()
    assert not mine.exists()
    theirs.unlink()


RANGE = """
import sys
from pathlib import Path
from pipeline.image_spec import ImageSpec
from pipeline.packing import shard_cut
from pipeline.packing.config import PackConfig
from pipeline.packing.packer import pack_range
from pipeline.packing.shard_range import ShardRange
shard_cut.MIN_SHARD_SAMPLES = 4
out, root = map(Path, sys.argv[1:3])
config = PackConfig(spec=ImageSpec.square(6), shard_range=ShardRange.parse(sys.argv[3]))
pack_range(root.parent / "nih.parquet", root=root, out=out, config=config)
"""


def test_ranges_at_the_same_time(release: Path, tmp_path: Path) -> None:
    out = tmp_path / "pack"
    processes = [
        subprocess.Popen([sys.executable, "-c", RANGE, str(out), str(release), f"{index}/3"]) for index in range(3)
    ]
    assert [process.wait() for process in processes] == [0, 0, 0]
    whole(out, release, finish=True)
    whole(tmp_path / "whole", release)
    assert contents(out) == contents(tmp_path / "whole")


def test_as_a_person_runs_it(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "home"))
    arguments = ["pack", "--manifest", str(release.parent / "nih.parquet"), "--root", str(release), "--size", "6"]
    monkeypatch.setattr("sys.argv", ["cxr-prep", *arguments, "--shard-range", "0/2"])
    printed = run(*arguments, "--shard-range", "0/2")
    assert "range     0/2: 3 shards" in printed
    assert "images    11 of 12 packed" in printed
    assert f"next      when all ranges are done: cxr-prep {' '.join(arguments)} --finish" in printed
    run(*arguments, "--shard-range", "1/2")
    assert f"images    20 of {NUM_IMAGES} packed" in run(*arguments, "--finish")
    assert "OK: 22 samples" in run("verify", Workspace.current().pack_path("nih", 6, "raw"))
