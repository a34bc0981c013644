"""The table that benchmarks write."""

import csv
from pathlib import Path

import pytest

from tools.benchmark import append_row, command_line, summarise


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_summary_is_median_and_spread() -> None:
    assert summarise([3.0, 1.0, 10.0]) == (3.0, 1.0, 10.0)
    assert summarise([4.0, 2.0]).median == 3.0


def test_summary_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no measurements"):
        summarise([])


def test_rows_are_appended_and_new_columns_leave_old_rows_empty(tmp_path: Path) -> None:
    path = tmp_path / "results" / "x.csv"
    append_row(path, {"what": "a, b", "median_s": 1.5})
    append_row(path, {"what": "c", "median_s": 2, "note": "new"})
    rows = read(path)
    assert [(row["what"], row["median_s"], row["note"]) for row in rows] == [("a, b", "1.5", ""), ("c", "2", "new")]


def test_a_row_says_when_where_and_with_what(tmp_path: Path) -> None:
    append_row(tmp_path / "x.csv", {"what": "a"})
    (row,) = read(tmp_path / "x.csv")
    for column in ("date", "cpu", "cores", "python", "torch", "numpy", "polars", "pyarrow", "command"):
        assert row[column], column


def test_the_command_says_the_names_of_files_and_not_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--labels", "/data/nih/labels.csv", "--out=/tmp/x/y", "--rate", "1/2", "a/b"]
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    assert command_line().endswith(" --labels .../labels.csv --out=.../y --rate 1/2 a/b")
