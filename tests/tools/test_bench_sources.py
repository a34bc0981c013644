"""The benchmark of the sources runs, and its losses are those of the rule."""

import csv
from pathlib import Path

import pytest

from pipeline.packing.sources.jpeg import OVERSAMPLING
from tools import bench_sources


def test_it_tells_times_and_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.pack_films.NUM_FILES", 2)
    monkeypatch.setattr(bench_sources, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["bench_sources", "--rounds", "1"])
    bench_sources.main()
    with (tmp_path / "sources.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["ms"]) > 0 for row in rows if row["ms"])
    worst_db = {(row["what"], float(row["pixels_left"])): float(row["worst_db"]) for row in rows if row["pixels_left"]}
    for reduction, left in OVERSAMPLING.items():
        assert worst_db[f"jpeg: loss at 1/{reduction}", left] >= 50
