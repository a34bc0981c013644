"""The benchmark of the formats runs, and its peer is ended when it hangs."""

import csv
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tools import bench_formats
from tools.ffcv_writer import write_with_ffcv


def test_it_runs_and_writes_a_row_a_contender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def peer(arrays: Path, out: Path, *, page_bytes: int) -> float:  # FFCV itself is in test_ffcv.py
        with np.load(arrays) as stored:
            out.write_bytes(stored["images"].tobytes())
        return 0.5

    options = ["--num-images", "70", "--sizes", "16", "--runs", "1"]
    monkeypatch.setattr(sys, "argv", ["bench_formats", *options])
    monkeypatch.setattr(bench_formats, "RESULTS", tmp_path)
    monkeypatch.setattr(bench_formats, "write_with_ffcv", peer)
    monkeypatch.setattr("tools.pack_films.NUM_FILES", 3)
    bench_formats.main()
    with (tmp_path / "formats.csv").open(newline="") as file:
        rows = {row["contender"]: row for row in csv.DictReader(file)}
    assert list(rows) == [
        "raw",
        *(f"tar jpg q{quality}" for quality in (85, 90, 95, 98)),
        "tar png",
        *("beton gray", "ffcv gray", "beton rgb", "ffcv rgb"),
    ]
    assert rows["ffcv gray"]["images_per_s"] == "140"
    assert (rows["raw"]["bytes_per_image"], rows["ffcv rgb"]["bytes_per_image"]) == ("260", "768")
    losses_db = [float(rows[f"tar jpg q{quality}"]["psnr_db_mean"]) for quality in (85, 90, 95, 98)]
    assert losses_db == sorted(losses_db)
    assert float(rows["tar jpg q95"]["psnr_db_min"]) <= losses_db[2]
    assert not rows["tar png"]["psnr_db_mean"]


def test_it_compares_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--num-images", "3", "--sizes", "32", "--runs", "1", "--encoders"]
    monkeypatch.setattr(sys, "argv", ["bench_formats", *options])
    monkeypatch.setattr(bench_formats, "RESULTS", tmp_path)
    monkeypatch.setattr("tools.pack_films.NUM_FILES", 3)
    bench_formats.main()
    with (tmp_path / "formats.csv").open(newline="") as file:
        num_bytes = {row["contender"]: int(row["bytes_per_image"]) for row in csv.DictReader(file)}
    assert len(num_bytes) == 8
    assert num_bytes["pillow png level 9"] <= num_bytes["pillow png level 1"]
    assert num_bytes["jpg q95 optimize"] <= num_bytes["jpg q95"]


def running_commands() -> list[bytes]:
    """The command line of every process."""
    commands = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            commands.append(file.read_bytes())
    return commands


def test_a_peer_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match=r"FFCV's writer did not end within 0.05 s"):
        write_with_ffcv(tmp_path / "absent.npz", tmp_path / "out.beton", page_bytes=1 << 21, timeout_s=0.05)
    assert not any(str(tmp_path).encode() in command for command in running_commands())


def test_a_peer_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)FFCV's writer failed:.*absent.npz"):
        write_with_ffcv(tmp_path / "absent.npz", tmp_path / "out.beton", page_bytes=1 << 21)
