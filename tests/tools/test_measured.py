"""The README's tables are what the results say."""

import csv
from pathlib import Path
from typing import Any

import pytest

from tools.bench_all import Benchmark, benchmarks, filled, parsed, reason_to_leave_out, run
from tools.benchmark import PROJECT, RESULTS
from tools.measured import MISSING, cells, declared, measured_table, pattern, read, rewritten, significant
from tools.measured_demo import demo_table

LINE: dict[str, Any] = {
    "what": "a loader", "command": "python -m tools.bench_x --images DIR", "csv": "x",
    "measured": "{ours.per_s:3} images/s", "beside": "{ratio:2} x theirs",
    "rows": {"ours": {"what": "ours"}, "theirs": {"what": "theirs"}},
    "ratios": {"ratio": ["ours.per_s", "theirs.per_s"]},
    "aims": [{"number": "ratio", "at_least": 3, "words": "3 x"}],
}  # fmt: skip


def row(what: str, per_s: str, command: str = "python -m tools.bench_x --images .../films") -> dict[str, str]:
    return {"command": command, "what": what, "per_s": per_s}


def test_readme_says_what_the_results_say() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert readme == rewritten(readme, declared(), RESULTS), "`python -m tools.measured` writes the tables"


def test_no_result_is_written_by_hand() -> None:
    """Every cell of a result comes from a row: without results, nothing is measured."""
    lines = declared()["line"]
    for line in measured_table(lines, Path("nowhere")).splitlines()[2:]:
        assert line.split(" | ")[1] == MISSING


def test_every_line_names_a_command_that_is_run_and_every_benchmark_is_listed() -> None:
    commands = {one.command for one in benchmarks()}
    assert {line["command"] for line in declared()["line"]} <= commands
    on_disk = {path.stem.removeprefix("bench_") for path in (PROJECT / "tools").glob("bench_*.py")} - {"all"}
    assert on_disk == {one.module for one in benchmarks()}
    assert on_disk == {one.module for one in benchmarks() if one.quick}, "`--quick` shows that each still runs"


def test_the_newest_row_of_the_command_counts() -> None:
    rows = [row("ours", "100"), row("theirs", "40"), row("ours", "123.4"), row("ours", "9", "python -m tools.bench_x")]
    assert cells(LINE, rows) == ("123 images/s", "3.1 x theirs")


def test_an_aim_that_is_not_reached_is_said_to_be_missed() -> None:
    assert cells(LINE, [row("ours", "80"), row("theirs", "40")]) == ("80.0 images/s", "2.0 x theirs; **missed**: 3 x")


def test_what_has_no_row_is_not_yet_measured() -> None:
    assert cells(LINE, [row("ours", "80")]) == (MISSING, "")


def test_a_table_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one table between <!-- measured -->"):
        rewritten("<!-- demo --><!-- /demo -->", declared(), RESULTS)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1234.5, 3, "1,230"), (0.04567, 3, "0.0457"), (0.9996, 3, "1.00"), (9.96, 2, "10"), (250, 3, "250"), (0, 2, "0")],
)  # fmt: skip
def test_significant_digits(value: float, digits: int, text: str) -> None:
    assert significant(value, digits) == text


def test_paths_of_real_data_are_any_path() -> None:
    command = "python -m tools.bench_pack --images DIR --sizes 256,512"
    assert pattern(command).fullmatch("python -m tools.bench_pack --images .../films --sizes 256,512")
    assert not pattern(command).fullmatch("python -m tools.bench_pack --images .../films --sizes 256")


def test_results_are_read_from_the_folder_given(tmp_path: Path) -> None:
    assert read(tmp_path / "none.csv") == []
    with (tmp_path / "x.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["command", "what"], ["a", "b, c"]])
    assert read(tmp_path / "x.csv") == [{"command": "a", "what": "b, c"}]


def test_demo_is_mean_and_deviation_over_seeds_of_the_newest_settings() -> None:
    def run_of(seed: str, best: str, num_images: str = "5000", quick: str = "0") -> dict[str, str]:
        values = {"method": "BCE", "seed": seed, "num_images": num_images, "size_px": "64", "num_epochs": "20"}
        return values | {"quick": quick, "clean_test_mean_auroc_best": best, "clean_test_mean_auroc_last": "0.5"}

    rows = [run_of("0", "0.1"), run_of("0", "0.7"), run_of("1", "0.9"), run_of("2", "0.2", "100", "1")]
    text = demo_table([run_of("3", "0.3", "999"), *rows], {"BCE": "plain", "other": "never run"})
    assert text.splitlines()[2:] == ["| plain | 0.800 ± 0.141 | 0.500 ± 0.000 | 2 |"]


def test_a_benchmark_without_its_data_is_left_out() -> None:
    one = Benchmark("python -m tools.bench_pack --images DIR", 1, needs_gpu=False, quick=None)
    assert reason_to_leave_out(one, {"DIR": None, "FILE": None}) == "no --images"
    assert not reason_to_leave_out(one, {"DIR": Path("my films"), "FILE": None})
    assert filled(one.command, {"DIR": Path("my films")}) == "python -m tools.bench_pack --images 'my films'"


def test_one_that_fails_does_not_stop_the_rest(capfd: pytest.CaptureFixture[str]) -> None:
    fails, works = "python -c 'raise SystemExit(3)'", "python -c 'import os; print(os.environ[\"CXR_RESULTS\"])'"
    assert run([fails, works], environment={"CXR_RESULTS": "elsewhere"}) == [fails]
    assert "elsewhere" in capfd.readouterr().out


def test_only_takes_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert parsed(["--only", "loader", "step"]).only == ["loader", "step"]
    with pytest.raises(SystemExit):
        parsed(["--only", "loaders"])
    assert "invalid choice: 'loaders'" in capsys.readouterr().err
