"""The packing benchmark compares like with like, and its peer cannot hang it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.image_spec import ImageSpec
from pipeline.packing.pixels import read_image
from tools import ffcv_peer
from tools.bench_pack import Run, file_system, measure, report
from tools.bench_pack_memory import draw, peaks
from tools.pack_contenders import Task, contenders_of
from tools.pack_films import as_jpegs, draw_films, write_manifest


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tools.pack_films.NUM_FILES", 3)
        return draw_films(tmp_path_factory.mktemp("bench") / "films")


@pytest.fixture(scope="module")
def task(films: Path) -> Task:
    root = as_jpegs(films, films.with_name("jpegs"))
    scratch = films.with_name("scratch")
    scratch.mkdir()
    return Task(source="jpeg", root=root, scratch=scratch, size_px=64, num_images=16, formats=("raw",))


def test_every_contender_runs_and_is_compared_with_as_many_processes(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contenders = contenders_of(task)
    assert [(contender.name, contender.num_images) for contender in contenders] == [
        ("limit x1", 8), ("limit x2", 16), ("raw x1", 8), ("raw x2", 16),
        ("disk x2", 8), ("pillow x2", 8), ("ffcv rgb x2", 8), ("ffcv gray x2", 8),
    ]  # fmt: skip
    measured = measure(contenders, runs=1, written=task.written)
    assert all(runs[0].cpu_s > 0 for runs in measured.values())
    assert [path.name for path in task.scratch.iterdir()] == ["films.parquet"]
    monkeypatch.setattr("tools.bench_pack.RESULTS", tmp_path)
    report(contenders, {each.name: [Run(3.0, 1.0), Run(1.0, 1.0), Run(2.0, 1.0)] for each in contenders}, task, "")
    lines = capsys.readouterr().out.splitlines()
    told = "4.0 (2.7 to 8.0); 1.00 of_limit; 1.000 times one process; 125.00 ms of processor an image"
    assert " ".join(lines[1].split()) == f"limit x1 {told}"
    assert "8.0 (5.3 to 16.0); 1.00 of_limit, 2.00 of_disk, 2.00 of_pillow, 2.00 of_ffcv_rgb" in lines[2]
    assert len((tmp_path / "pack.csv").read_text().splitlines()) == 1 + len(contenders)


def test_ffcv_s_peers_write_what_they_say(task: Task) -> None:
    image, index = ffcv_peer.RgbFiles(task.paths(2))[1]
    assert (image.mode, image.size, index) == ("RGB", (1024, 1024), 1)
    gray, _ = ffcv_peer.GrayFiles(task.paths(2), 64)[1]
    ours = read_image(task.paths(2)[1], ImageSpec(height_px=64, width_px=64, exact=True)).pixels_HW
    np.testing.assert_array_equal(gray, ours)


def test_a_dead_ffcv_worker_is_an_error_in_time(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffcv_peer, "TIMEOUT_S", 2)
    with pytest.raises(TimeoutError, match="did not end within 2 s"):
        ffcv_peer.write([task.root / "absent.jpg"], tmp_path / "out", kind="rgb", size_px=64, num_workers=2)


def test_jpegs_are_gray_and_of_the_films_size(task: Task) -> None:
    for path in task.paths(3):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "L", (1024, 1024))


def test_file_system_is_that_of_the_longest_mount() -> None:
    assert file_system(Path("/proc/self")) == "proc"


def test_peaks_of_parent_and_worker_are_told(tmp_path: Path) -> None:
    names = draw(tmp_path / "films")
    manifest = write_manifest(tmp_path / "films.parquet", names * 4)  # two shards, so that there are workers
    parent_mib, worker_mib = peaks(manifest, tmp_path / "films", tmp_path / "pack", "raw")
    assert 20 < worker_mib < parent_mib < 2000
