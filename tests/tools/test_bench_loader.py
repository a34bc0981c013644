"""The benchmark of loaders runs, its peers do the whole job, and it writes down what it measured."""

import csv
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.augment import AugmentConfig, augment_params
from pipeline.prepare import prepare_images
from tools import bench_loader, loader_batches, loader_films, loader_peers, pack_films


def test_it_runs_and_writes_a_row_a_contender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--jobs batches gpu --images 70 --size 8 --out-size 6 --batch 4 --threads 2 --rounds 2"
    monkeypatch.setattr(sys, "argv", ["bench_loader", *options.split(), "--folder", str(tmp_path)])
    monkeypatch.setattr(bench_loader, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(loader_batches, "PREPARE_IMAGES", 8)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)  # other tests keep theirs
    bench_loader.main()
    with (tmp_path / "results" / "loaders.csv").open(newline="") as file:
        rows = {row["contender"]: row for row in csv.DictReader(file)}
    assert list(rows) == [
        "bare np.take",
        "raw",
        "synthetic",
        "reference",
        "augment_params",
        "resample",
        "OpenCV nih",
        "OpenCV chexpert",
        "prepare nih",
        "prepare chexpert",
        "raw + prepare nih",
    ]
    for row in rows.values():
        assert float(row["images_per_s_min"]) <= float(row["images_per_s"]) <= float(row["images_per_s_max"])
        assert row["batch_size"] == "4"
        peer = rows[row["peer"]]
        ratio = float(row["images_per_s"]) / float(peer["images_per_s"])
        assert float(row["ratio_to_peer"]) == pytest.approx(ratio, rel=0.01, abs=1e-4)
    said = capsys.readouterr().out
    assert "times as fast as reference" in said
    assert "gpu: not yet measured" in said
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


@pytest.fixture
def small_films(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_films, "NUM_FILES", 8)
    monkeypatch.setattr(pack_films, "SOURCE_PX", 64)


@pytest.mark.usefixtures("small_films")
def test_peers_give_every_image_of_an_epoch(tmp_path: Path) -> None:
    films = loader_films.draw(tmp_path / "films", num_images=130, size_px=32)
    pack = films.pack("tar")
    tars = [pack.shard_path(shard) for shard in pack.shards]
    assert len(tars) > 1  # each worker of webdataset has its own
    peers = [
        loader_peers.authors(films.files, 24, 16, 2),
        loader_peers.webdataset(tars, 24, 16, 2),
        loader_peers.dali_readers(tars, 24, 16, 2, device="cpu"),
    ]
    assert [peer(epoch) for peer in peers for epoch in range(2)] == [130] * 6


def test_what_peers_do_to_an_image_is_a_crop_normalised() -> None:
    image = Image.new("RGB", (40, 40), (255, 0, 128))
    means, deviations = (torch.tensor(values) for values in (loader_peers.MEANS, loader_peers.DEVIATIONS))
    expected = (torch.tensor([1.0, 0.0, 128 / 255]) - means) / deviations
    found = loader_peers.augmented(image, 24)
    assert found.shape == (3, 24, 24)
    torch.testing.assert_close(found, expected[:, None, None].expand(3, 24, 24))
    for _ in range(20):
        left, top, width, height = loader_peers.random_crop(40, 60)
        assert 0 <= left <= left + width <= 40
        assert 0 <= top <= top + height <= 60
        assert 0.15 <= width * height / 2400 <= 1


def test_opencv_prepares_what_we_do_as_far_as_its_whole_gray_levels_go() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 30, 26), dtype=np.uint8)
    images_B1HW, params = torch.from_numpy(pixels), augment_params(0, 0, np.arange(4), AugmentConfig.chexpert())
    with ThreadPoolExecutor(2) as threads:
        found = loader_peers.opencv_prepare(images_B1HW, params, 24, threads)
    expected = prepare_images(images_B1HW, params, 24)
    gray_level = 1 / 255 / 0.226
    torch.testing.assert_close(found, expected, rtol=0, atol=5 * gray_level)
    assert (found - expected).abs().mean() < gray_level


@pytest.mark.soak
@pytest.mark.usefixtures("small_films")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ffcv_gives_every_image_of_an_epoch(tmp_path: Path) -> None:
    """Soak: FFCV compiles for half a minute. A finalizer of numba's fails over what it compiled for FFCV."""
    films = loader_films.draw(tmp_path / "films", num_images=70, size_px=32)
    betons = [films.ffcv_beton("rgb"), films.ffcv_beton("rgb-raw")]  # forks, so before anything is compiled
    for beton in betons:
        peer = loader_peers.ffcv(beton, 24, 16, 2)
        assert [peer(epoch) for epoch in range(2)] == [70, 70]
