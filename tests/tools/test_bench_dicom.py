"""The benchmark of DICOM films runs, and what it packs is what it drew."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.image_spec import ImageSpec
from pipeline.packing.pixels import read_image
from tools import bench_dicom


@pytest.fixture(autouse=True)
def small_films(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_dicom, "HEIGHT_PX", 60)
    monkeypatch.setattr(bench_dicom, "WIDTH_PX", 50)


def test_it_runs_and_writes_a_row_a_contender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--num-images", "2", "--runs", "1", "--size", "16", "--plan-rows", "300"]
    monkeypatch.setattr(sys, "argv", ["bench_dicom", *options])
    monkeypatch.setattr(bench_dicom, "RESULTS", tmp_path)
    bench_dicom.main()
    with (tmp_path / "dicom.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["contender"]) for row in rows] == [
        ("manifest", "plan"),
        ("uncompressed", "decode"),
        ("uncompressed", "pack"),
        ("JPEG 2000 lossless", "decode"),
        ("JPEG 2000 lossless", "pack"),
    ]
    assert all(float(row["images_per_s"]) > 0 for row in rows)
    assert all(float(row["peak_mib"]) > 1 for row in rows[1:])


def test_both_kinds_hold_the_same_film(tmp_path: Path) -> None:
    spec = ImageSpec(height_px=60, width_px=50)
    films = [
        read_image(bench_dicom.write_films(tmp_path / kind, kind, 1)[0], spec).pixels_HW for kind in bench_dicom.KINDS
    ]
    np.testing.assert_array_equal(films[0], films[1])
