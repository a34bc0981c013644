"""The benchmark of fed steps runs, and its rows say what it measured."""

import csv
import sys
from pathlib import Path

import pytest

from tests.factories import make_pack
from tools import bench_feed


def test_rows_compare_loaders_with_the_step_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pack").mkdir()
    pack = make_pack(tmp_path / "pack", num_images=64, size_px=32).folder
    monkeypatch.setattr(bench_feed, "RESULTS", tmp_path)
    options = ["--pack", str(pack), "--loaders", "raw", "--batch", "8", "--threads", "1", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["bench_feed", *options])
    bench_feed.main()
    with (tmp_path / "feed.csv").open(newline="") as file:
        synthetic, raw = csv.DictReader(file)
    assert (synthetic["loader"], synthetic["share_of_synthetic"]) == ("synthetic", "1.0000")
    assert raw["loader"] == "raw"
    assert float(raw["share_of_synthetic"]) == pytest.approx(
        float(raw["images_per_s"]) / float(synthetic["images_per_s"]), rel=0.1
    )
    assert float(raw["wait_p99_ms"]) >= 0
    assert "of synthetic; wait at p99" in capsys.readouterr().out
