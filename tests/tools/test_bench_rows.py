"""The benchmark of long label files compares like with like."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from manifests.table import ManifestTable
from tests.manifests.tiny_chexpert import TRAIN, built, write_csv
from tools.bench_rows import BUILD_CODE, GIB, Run, report, write_labels
from tools.benchmark import PROJECT
from tools.peak_memory import peak_memory_bytes
from tools.rows_peer import peer_table


def same(root: Path, table: ManifestTable) -> bool:
    """Whether the peer's table is ours, type by type."""
    peer = pa.Table.from_pandas(peer_table(root), preserve_index=False).cast(table.table.schema)
    return bool(peer.replace_schema_metadata(None).equals(table.table.replace_schema_metadata(None)))


def test_the_peer_makes_the_same_table(tmp_path: Path) -> None:
    root = tmp_path / "release"
    write_csv(root / "train.csv", TRAIN)
    assert same(root, built(root, allow_missing_images=True))


def test_the_peer_makes_the_same_table_of_synthetic_rows(tmp_path: Path) -> None:
    write_labels(tmp_path / "release", 2_000)
    table = built(tmp_path / "release", allow_missing_images=True)
    assert table.num_rows == 2_000
    assert table.metadata["counts"]["patients"] == 667
    assert same(tmp_path / "release", table)


@pytest.mark.parametrize("command", [["-c", BUILD_CODE], ["-m", "tools.rows_peer"]])
def test_each_contender_tells_seconds_and_memory(tmp_path: Path, command: list[str]) -> None:
    write_labels(tmp_path / "release", 30)
    arguments = [sys.executable, *command, str(tmp_path / "release"), str(tmp_path / "out.parquet")]
    done = subprocess.run(arguments, check=True, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    run = Run(*map(float, done.stdout.split()))
    assert run.wall_s > 0
    assert run.peak_bytes > 2**24


def test_rates_targets_and_ratios_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tools.bench_rows.RESULTS", tmp_path)
    report({"cxr-prep": [Run(2.0, 3.0, 1.2 * GIB)], "pandas": [Run(8.0, 8.0, 4 * GIB)]}, 1_000_000)
    ours, peer = capsys.readouterr().out.splitlines()
    assert "500,000 rows/s" in ours
    assert "4.0 x pandas; target 1,000,000 rows/s MISSED, below 1.5 GiB met" in ours
    assert "MISSED" not in peer
    assert (tmp_path / "rows.csv").read_text().count("\n") == 3


def test_peak_memory_is_at_least_what_was_touched() -> None:
    before = peak_memory_bytes()
    touched = bytearray(64 << 20)
    touched[::4096] = b"x" * len(touched[::4096])
    assert peak_memory_bytes() >= max(before, 64 << 20)
