"""A hopeless run stops early, with a summary and exit code 1; what it has finished can be used."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from manifests.errors import ConfigError
from pipeline.errors import TooManyRejectsError
from pipeline.image_spec import ImageSpec
from pipeline.packing import shard_cut
from pipeline.packing.config import PackConfig
from pipeline.packing.outcome import PackSummary
from pipeline.packing.packer import pack_manifest
from pipeline.packing.partial import PartialPack
from pipeline.packing.rejects import RejectLimit
from tests.factories import image_names, make_manifest, make_release

NUM_IMAGES = 200
BROKEN = [10, 60, 61, 62, 130, 190]
SIZE_PX = 6


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_cut, "MIN_SHARD_SAMPLES", 10)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rejects")
    make_manifest(folder, num_images=NUM_IMAGES)
    root = make_release(folder, num_images=NUM_IMAGES, size_px=SIZE_PX)
    for index in BROKEN:
        (root / "images" / image_names(NUM_IMAGES)[index]).write_bytes(b"no film")
    (root / "images" / image_names(NUM_IMAGES)[60]).unlink()
    return root


def packed(out: Path, release: Path, limit: str, **options: object) -> PackSummary:
    config = PackConfig(
        spec=ImageSpec.square(SIZE_PX),
        max_rejects=RejectLimit(text=limit),
        **options,  # type: ignore[arg-type]
    )
    return pack_manifest(release.parent / "nih.parquet", root=release, out=out, config=config)


@pytest.mark.parametrize(
    ("text", "allowed"), [("0", 0), ("25", 25), ("0%", 0), ("1%", 2), ("0.5%", 1), ("1.49%", 2), ("100%", 200)]
)
def test_a_limit_is_a_number_or_a_percentage(text: str, allowed: int) -> None:
    assert RejectLimit(text=text).allowed(NUM_IMAGES) == allowed


@pytest.mark.parametrize("text", ["", "%", "-1", "1.5", "101%", "many", "1/0", "nan"])
def test_other_limits_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a number of images, or a percentage such as 1%"):
        RejectLimit(text=text)


@pytest.mark.parametrize("limit", ["3", "1.5%"])
@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_hopeless_run_stops_at_the_image_that_exceeds_its_limit(
    release: Path, tmp_path: Path, limit: str, num_workers: int
) -> None:
    with pytest.raises(TooManyRejectsError) as caught:
        packed(tmp_path / "pack", release, limit, num_workers=num_workers)
    message = str(caught.value)
    assert f"--max-rejects {limit} allows 3 of 200" in message
    if num_workers == 1:  # the order in which processes report is their own
        assert message.startswith("stopped: 4 images are rejected already (not an image 3, missing file 1)")
        assert f"\n  images/{image_names(NUM_IMAGES)[10]}: not an image\n" in message
    assert f"finished shards are kept in {tmp_path / 'pack.partial'}: to go on, use --resume" in message
    num_finished = len(list(PartialPack.of(tmp_path / "pack").finished.glob("[!.]*")))
    assert num_finished == 6 or num_workers > 1

    summary = packed(tmp_path / "pack", release, "3%", resume=True)
    assert summary.num_resumed == 10 * num_finished
    assert summary.pack.rejected == tuple(BROKEN)


def test_kept_shards_count_as_well(release: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(TooManyRejectsError, match="stopped: 4 images"):
            packed(tmp_path / "pack", release, "3", resume=True)


def test_exactly_so_many_are_allowed(release: Path, tmp_path: Path) -> None:
    assert len(packed(tmp_path / "pack", release, str(len(BROKEN))).pack.rejected) == len(BROKEN)


def test_rejected_images_are_listed_with_path_reason_and_bytes(release: Path, tmp_path: Path) -> None:
    packed(tmp_path / "pack", release, "3%")
    rows = pq.read_table(tmp_path / "pack" / "rejected.parquet").to_pylist()
    assert [(row["sample_index"], row["path"]) for row in rows] == [
        (index, f"images/{image_names(NUM_IMAGES)[index]}") for index in BROKEN
    ]
    assert [row["num_bytes"] for row in rows] == [7, None, 7, 7, 7, 7]
    assert [row["reason"] for row in rows] == ["not_an_image", "missing_file", *4 * ["not_an_image"]]
    assert all(row["detail"] for row in rows)


def test_exit_code_is_1(release: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "CXR_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "pipeline.cli", "pack", "--manifest", str(release.parent / "nih.parquet")]
    command += ["--root", str(release), "--size", "6", "--max-rejects", "2%"]
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == 1
    assert "stopped: " in process.stderr
    assert "Traceback" not in process.stderr
