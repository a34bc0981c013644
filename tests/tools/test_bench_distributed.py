"""The benchmark of several processes runs, and writes down what it measured."""

import csv
import sys
from pathlib import Path

import pytest

from tools import bench_distributed


def test_it_runs_and_writes_a_row_a_contender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--rows", "500", "--rounds", "2", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["bench_distributed", *options])
    monkeypatch.setattr(bench_distributed, "RESULTS", tmp_path / "results")
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)  # other tests keep theirs
    bench_distributed.main()
    with (tmp_path / "results" / "distributed.csv").open(newline="") as file:
        rows = {row["what"]: row for row in csv.DictReader(file)}
    assert list(rows) == [
        "all-reduce of 500 x 14",
        "merge of a memory of 500 x 14",
        "average of the statistics, densenet121 + teacher",
        "agreement on signals and clocks",
        f"write of {int(rows['checkpoint of a memory of 500 x 14']['num_bytes']):,} bytes",
        "checkpoint of a memory of 500 x 14",
    ]
    for row in rows.values():
        assert float(row["min_ms"]) <= float(row["median_ms"]) <= float(row["max_ms"])
        ratio = float(row["median_ms"]) / float(rows[row["peer"]]["median_ms"])
        assert float(row["time_over_peer"]) == pytest.approx(ratio, rel=0.01, abs=1e-3)
    assert "x all-reduce of 500 x 14" in capsys.readouterr().out
