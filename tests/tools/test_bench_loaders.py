"""The benchmark of the loaders runs, and writes down what it measured."""

import csv
import sys
from pathlib import Path

import pytest

from tools import bench_loaders


def test_it_runs_and_writes_a_row_a_contender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--images 70 --size 8 --out-size 6 --batch 4 --threads 2 --rounds 2"
    monkeypatch.setattr(sys, "argv", ["bench_loaders", *options.split(), "--folder", str(tmp_path)])
    monkeypatch.setattr(bench_loaders, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(bench_loaders, "PREPARE_IMAGES", 8)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)  # other tests keep theirs
    bench_loaders.main()
    with (tmp_path / "results" / "loaders.csv").open(newline="") as file:
        rows = {row["contender"]: row for row in csv.DictReader(file)}
    assert list(rows) == [
        "bare np.take",
        "raw",
        "synthetic",
        "reference",
        "augment_params",
        "resample",
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
    assert "times as fast as reference" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
