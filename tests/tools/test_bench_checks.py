"""The benchmark of the checks runs, and writes down what it measured."""

import csv
import sys
from pathlib import Path

import pytest

from tools import bench_checks


def test_it_runs_and_writes_a_row_with_and_without_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = "--num-images 48 --size 32 --tar-size 32 --threads 1 --rounds 1"
    monkeypatch.setattr(sys, "argv", ["bench_checks", *options.split()])
    monkeypatch.setattr(bench_checks, "RESULTS", tmp_path)
    monkeypatch.setattr(bench_checks, "OUT_SIZE_PX", 24)
    monkeypatch.setattr("tools.pack_films.NUM_FILES", 3)
    monkeypatch.setattr("tools.pack_films.SOURCE_PX", 64)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)  # other tests keep theirs
    bench_checks.main()
    with (tmp_path / "checks.csv").open(newline="") as file:
        rows = {row["what"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["raw, checks off", "raw, checks on", "dali, checks off", "dali, checks on"]
    assert {row["num_images"] for row in rows.values()} == {"48", "6"}
    assert rows["raw, checks on"]["peer"] == "raw, checks off"
