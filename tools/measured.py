"""README's tables of what was measured, rewritten from the rows in tools/results/.

    python -m tools.measured

What stands in a table, and which row each number is taken from, is declared in ``tools/measured.toml``: texts there,
numbers in the CSV files, no number by hand. A row counts by the command that wrote it, so that trials with other
arguments never reach the README; of several the last one appended, which is that of the newest run. Where a row is
missing the table says "not yet measured". A test compares the tables with the results.
"""

import csv
import re
import tomllib
from collections.abc import Mapping
from math import floor, log10
from pathlib import Path
from typing import Any

from tools.benchmark import PROJECT, RESULTS
from tools.measured_demo import demo_table

DECLARED = PROJECT / "tools" / "measured.toml"
"""Lines of the tables, and commands of the benchmarks."""

MISSING = "not yet measured"

Rows = list[dict[str, str]]


class Number(float):
    """A number that is written with as many significant digits as its format says: `{x:3}`."""

    def __format__(self, digits: str) -> str:
        return significant(float(self), int(digits))


class Columns:
    """The columns of a row as attributes, for format strings."""

    def __init__(self, row: Mapping[str, str]) -> None:
        self._row = row

    def __getattr__(self, column: str) -> Number:
        return Number(self._row[column])


class NotMeasuredError(Exception):
    """A row that a line needs is not there."""


def main() -> None:
    """Put the tables between their markers in README.md."""
    path = PROJECT / "README.md"
    path.write_text(rewritten(path.read_text(encoding="utf-8"), declared(), RESULTS), encoding="utf-8")


def declared() -> dict[str, Any]:
    """Return what `measured.toml` says."""
    return tomllib.loads(DECLARED.read_text(encoding="utf-8"))


def rewritten(readme: str, tables: Mapping[str, Any], results: Path) -> str:
    """Return the README with its tables as the results say.

    Raises:
        ValueError: a table has no markers there.
    """
    demo = tables["demo"]
    texts = {
        "measured": measured_table(tables["line"], results),
        "demo": demo_table(read(results / f"{demo['csv']}.csv"), demo["methods"]),
    }
    for name, text in texts.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if readme.count(begin) != 1 or readme.count(end) != 1:
            raise ValueError(f"README.md: expected one table between <!-- {name} --> and {end}")
        before, _, rest = readme.partition(begin)
        readme = before + begin + text + end + rest.partition(end)[2]
    return readme


def measured_table(lines: list[dict[str, Any]], results: Path) -> str:
    """Return the table of all lines as Markdown."""
    text = "| what | measured | beside | command |\n|---|---|---|---|\n"
    above = ""
    for line in lines:
        measured, beside = cells(line, read(results / f"{line['csv']}.csv"))
        command = "the same" if line["command"] == above else f"`{line['command']}`"
        text += f"| {line['what']} | {measured} | {beside} | {command} |\n"
        above = line["command"]
    return text


def cells(line: Mapping[str, Any], rows: Rows) -> tuple[str, str]:
    """Return what was measured and what stands beside it, with the aims that are missed."""
    try:
        numbers: dict[str, Any] = {
            name: Columns(newest(rows, line["command"], columns)) for name, columns in line["rows"].items()
        }
        for name, (above, below) in line.get("ratios", {}).items():
            numbers[name] = Number(number(above, numbers) / number(below, numbers))
        measured, beside = line["measured"].format(**numbers), line["beside"].format(**numbers)
        missed = [aim["words"] for aim in line.get("aims", []) if not is_reached(aim, numbers)]
    except NotMeasuredError:
        return MISSING, ""
    return measured, "; ".join([beside, f"**missed**: {', '.join(missed)}"] if missed else [beside])


def newest(rows: Rows, command: str, columns: Mapping[str, str]) -> dict[str, str]:
    """Return the last row that the command wrote and that has these values in these columns.

    Raises:
        NotMeasuredError: there is none.
    """
    written_by = pattern(command)
    for row in reversed(rows):
        if written_by.fullmatch(row["command"]) and all(row.get(key) == value for key, value in columns.items()):
            return row
    raise NotMeasuredError(f"{command}: no row with {dict(columns)}")


def pattern(command: str) -> re.Pattern[str]:
    """Return what a command looks like in a result: of the paths that DIR and FILE stand for the last name is left."""
    return re.compile(re.sub(r"\b(DIR|FILE)\b", r"(?:\\.\\.\\./)?\\S+", re.escape(command)))


def number(name: str, numbers: Mapping[str, Any]) -> float:
    """Return the number `row.column`, or a ratio by its name."""
    row, _, column = name.partition(".")
    return float(getattr(numbers[row], column) if column else numbers[row])


def is_reached(aim: Mapping[str, Any], numbers: Mapping[str, Any]) -> bool:
    """Return whether a number is what was aimed at."""
    value = number(aim["number"], numbers)
    return value >= aim["at_least"] if "at_least" in aim else bool(value <= aim["at_most"])


def read(path: Path) -> Rows:
    """Return the rows of a result, none where it is not there."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def significant(value: float, digits: int) -> str:
    """Return a number with so many significant digits: 1234.5 with three is 1,230, 0.04567 is 0.0457."""
    if value == 0:
        return "0"
    places = digits - 1 - floor(log10(abs(value)))
    places = digits - 1 - floor(log10(abs(round(value, places))))  # 9.96 with two is 10, not 10.0
    return f"{round(value, places):,.{max(places, 0)}f}"


if __name__ == "__main__":
    main()
