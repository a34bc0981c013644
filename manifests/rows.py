"""Rows of a comma-separated label file: read as text, checked column by column, refused together with line numbers.

Most columns have few distinct values (836 label strings over the 112,120 rows of ChestX-ray14), so that a parser in
plain Python, called once a distinct value, is both the readable and the fast way.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, TypeVar

import polars as pl

from manifests.errors import ManifestError
from manifests.lines import FIELDS, LINE, Part, plain_parts, quoted_tables, unix_bytes
from manifests.runs import count_distinct

Read = Callable[[], "Rows | None"]
"""Reads the rows of a part; None where it has none."""

Result = TypeVar("Result")

ROWS_A_PART = 65_536
"""Rows of a part that `read_in_parts` reads: a few tens of MiB of cells."""

PARTS_AT_ONCE = 2
"""Parts that are read and checked at the same time. Polars uses all cores for much of a part, not for all of it."""

Others = Literal["refuse", "pass over"]
"""What becomes of columns that nobody asked for."""

LABEL_WORDS = ("1.0", "0.0", "-1.0", "1", "0", "-1")
"""Cells of a label column: present, absent, uncertain; twice."""


class Rows:
    """One text column a field, blank cells null, plus `LINE`; and the problems found so far."""

    def __init__(self, path: str, frame: pl.DataFrame, problems: Sequence[tuple[int, str]] = ()) -> None:
        self.path = path
        self.frame = frame
        self.problems: list[tuple[int, str]] = [*problems]
        """Number of the line and what is wrong there, in the order of finding."""

    def refuse(self, bad: pl.Expr, message: str, *columns: str) -> None:
        """Note every row where `bad` holds; `message` is formatted with the row's values of `columns`."""
        is_bad = self.frame.select(bad).to_series()
        if is_bad.any():
            for line, *values in self.frame.select(LINE, *columns).filter(is_bad).iter_rows():
                self.problems.append((line, message.format(*values)))

    def refuse_blank(self, *columns: str) -> None:
        """Note every row with a blank cell in one of `columns`."""
        for column in columns:
            self.refuse(pl.col(column).is_null(), f"{column} is blank")

    def refuse_repeats(self, column: str) -> None:
        """Note every row whose value of `column` stood in an earlier row."""
        values = self.frame[column].drop_nulls()
        if count_distinct(values) < len(values):
            earlier = pl.col(LINE).first().over(column)
            repeated = self.frame.select(LINE, column, first=earlier).filter(pl.col(LINE) != pl.col("first"))
            for line, value, first in repeated.drop_nulls(column).iter_rows():
                self.problems.append((line, f"{column} {value!r} again (first on line {first:,})"))

    def whole_number(self, column: str, *, at_least: int) -> pl.Series:
        """Return `column` as Int32; what is no whole number from `at_least` up is refused, blank cells are null."""
        number = pl.col(column).cast(pl.Int32, strict=False)
        bad = pl.col(column).is_not_null() & (number.is_null() | (number < at_least))
        expected = f"expected a whole number from {at_least} to {2**31 - 1}"
        self.refuse(bad, f"{column} {{!r}}: {expected}", column)
        return self.frame.select(number).to_series()

    def parse(self, column: str, parser: Callable[[str], Any], dtype: pl.DataType | type[pl.DataType]) -> pl.Series:
        """Return `column` through `parser`, called once a distinct value; a `ValueError` refuses the value's rows."""
        parsed, problems = self.parse_distinct(column, parser)
        self.refuse_values(column, problems)
        # Reading the text again is faster than looking it up, and the same where the parser only checks.
        only_checks = not problems and all(value is not None and text == str(value) for text, value in parsed.items())
        if only_checks and dtype in (pl.String, pl.Int32):
            return self.frame[column].cast(dtype)
        return self.frame[column].replace_strict(list(parsed), list(parsed.values()), default=None, return_dtype=dtype)

    def words(self, column: str, *words: str) -> pl.Series:
        """Return `column` as an Enum of `words`, in half the time of `parse`; other words are refused."""
        known = self.frame[column].cast(pl.Enum(words), strict=False)
        if known.null_count() > self.frame[column].null_count():
            self.parse(column, one_of(*words), pl.String)
        return known

    def expand(self, column: str, parser: Callable[[str], Collection[str]], findings: Sequence[str]) -> list[pl.Series]:
        """Return one Int8 column for each of `findings`: 1 where `parser` of the cell holds it, else 0.

        `parser` is called once a distinct value; a `ValueError` refuses the value's rows, which become null.
        """
        parsed, problems = self.parse_distinct(column, parser)
        self.refuse_values(column, problems)
        table = pl.DataFrame(
            {column: list(parsed)} | {name: [int(name in found) for found in parsed.values()] for name in findings},
            schema={column: pl.String} | dict.fromkeys(findings, pl.Int8),
        )
        rows = self.frame.select(column).join(table, on=column, how="left", maintain_order="left")
        return rows.drop(column).get_columns()

    def labels(self, finding_of: Mapping[str, str]) -> list[pl.Series]:
        """Return one Int8 column a finding from columns of 1, 0, -1 and blank (null); ``1.0`` is 1.

        Args:
            finding_of: column -> finding, the name of the result.
        """
        # An Enum's numbers are those of LABEL_WORDS, which has 1, 0, -1 twice: half the time of a dictionary.
        codes = pl.Enum(LABEL_WORDS)
        labels = self.frame.select(
            pl.col(column).alias(finding)
            if self.frame[column].dtype == pl.Int8
            else (1 - pl.col(column).cast(codes, strict=False).to_physical().cast(pl.Int8) % 3).alias(finding)
            for column, finding in finding_of.items()
        )
        for column, finding in finding_of.items():
            if labels[finding].null_count() > self.frame[column].null_count():
                unknown = pl.col(column).is_not_null() & ~pl.col(column).is_in(LABEL_WORDS)
                self.refuse(unknown, f"{column} {{!r}}: expected 1, 0, -1 or blank", column)
        return labels.get_columns()

    def parse_distinct(self, column: str, parser: Callable[[str], Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Return distinct value -> what `parser` makes of it, and distinct value -> why it cannot."""
        parsed: dict[str, Any] = {}
        problems: dict[str, str] = {}
        for value in self.frame[column].unique().drop_nulls().sort():
            try:
                parsed[value] = parser(value)
            except ValueError as error:
                problems[value] = str(error)
        return parsed, problems

    def refuse_values(self, column: str, problems: dict[str, str]) -> None:
        """Note every row whose value of `column` is a key of `problems`."""
        if problems:
            bad = self.frame.filter(pl.col(column).is_in(list(problems))).select(LINE, column)
            self.problems.extend((line, f"{column}: {problems[value]}") for line, value in bad.iter_rows())

    def raise_problems(self) -> None:
        """Report all problems together, by line.

        Raises:
            ManifestError: there is at least one.
        """
        if self.problems:
            problems = [f"line {line:,}: {text}" for line, text in sorted(self.problems)]
            what = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
            raise ManifestError(f"{self.path}: {what}", problems)


def one_of(*words: str) -> Callable[[str], str]:
    """Return a parser for `Rows.parse` that takes `words` only."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r}: expected {' or '.join(words)}")
        return text

    return parse


def is_plain_name(column: str) -> pl.Expr:
    """Tell whether a cell of `column` is a file name without a folder, on any system."""
    return pl.col(column).str.contains(r"^[^/\\\x00-\x1f]+$") & ~pl.col(column).is_in([".", ".."])


def read_rows(text: str | bytes, columns: Sequence[str], *, path: str, others: Others = "refuse") -> Rows:
    """Return the rows below the header of a comma-separated `text` whose columns are exactly `columns`, in this order.

    Bytes are UTF-8. With `others` passed over, `columns` are those that must be there, once each, wherever and among
    whatever others. One empty column more at the end is passed over, blank lines too. A row with another number of
    fields is noted as a problem. Without a quotation mark in the file (the normal case) a line is a row and Polars
    splits it; with one that it cannot be shown to read right, Python's csv module does, some five times slower.

    Raises:
        ManifestError: the header differs, there is no row, or a quotation never ends.
    """
    (rows,) = _some((read() for read in _parts(text, columns, path, others, num_rows=None)), path)
    return rows


def read_in_parts(
    text: str | bytes,
    columns: Sequence[str],
    check: Callable[[Rows], pl.DataFrame],
    *,
    path: str,
    others: Others = "refuse",
    labels: Collection[str] = (),
    num_rows: int = ROWS_A_PART,
) -> Rows:
    """Return what `check` makes of the rows of `read_rows`, part by part: for files of a million rows and more.

    So the text of all cells is never in memory at once, only what `check` keeps of it.

    Args:
        text: as in `read_rows`.
        columns: as in `read_rows`.
        check: gets the rows of a part, notes its problems there, and returns one row a row; called in several threads.
        path: as in `read_rows`.
        others: as in `read_rows`.
        labels: columns that `check` gives to `Rows.labels` alone; most of their cells then never become text.
        num_rows: of a part, or a few more.

    Returns:
        the checked columns and `LINE` of all rows, and the problems of all parts, so that what concerns all rows can
        still be refused.

    Raises:
        ManifestError: as `read_rows`.
    """

    def checked(read: Read) -> Rows | None:
        rows = read()
        if rows is None:
            return None
        return Rows(path, check(rows).with_columns(rows.frame[LINE]), rows.problems)

    parts = list(_some(_in_turn(checked, _parts(text, columns, path, others, num_rows, labels)), path))
    return Rows(path, pl.concat(part.frame for part in parts), [problem for part in parts for problem in part.problems])


def _in_turn(work: Callable[[Read], Result], parts: Iterable[Read]) -> Iterator[Result]:
    """Yield `work` of each of `parts`, in their order, several at a time; a part is asked for when a thread is free."""
    begun: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(PARTS_AT_ONCE) as threads:
        for part in parts:
            begun.append(threads.submit(work, part))
            if len(begun) > PARTS_AT_ONCE:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


def _some(parts: Iterable[Rows | None], path: str) -> list[Rows]:
    """Return the parts that have rows.

    Raises:
        ManifestError: none has.
    """
    found = [rows for rows in parts if rows is not None]
    if not found:
        raise ManifestError(f"{path}: no row below the header; download it again")
    return found


def _parts(
    text: str | bytes,
    columns: Sequence[str],
    path: str,
    others: Others,
    num_rows: int | None,
    labels: Collection[str] = (),
) -> Iterator[Read]:
    """Yield what reads the rows below the header, in parts of about `num_rows`; None: in one. A part may be empty."""
    content = text if isinstance(text, bytes) else text.encode()
    if b'"' in content:
        tables = quoted_tables(content.decode() if isinstance(text, bytes) else text, path, num_rows)
        parts: Iterator[Part] = (partial(pl.DataFrame, table) for table in tables)
    else:
        parts = plain_parts(unix_bytes(content), num_rows, labels)
    del text, content  # what the parts need of them they hold
    header = next(parts)().row(0)[1]
    width = len(header)
    if header[-1] == "" or header[-1].startswith("Unnamed: "):
        header.pop()
    _check_header(header, columns, path, others)
    for part in parts:
        yield partial(_rows_of, part, header, columns, width, path)


def _rows_of(part: Part, header: list[str], columns: Sequence[str], width: int, path: str) -> Rows | None:
    """Return the cells of `columns`; rows of another width are refused; None where there is no row.

    Args:
        part: reads `LINE` and `FIELDS`, or `LINE` and one column a field, called 0, 1, ...: see `manifests.lines`.
        header: the name of each field.
        columns: the fields that are wanted.
        width: how many fields a row has.
        path: for messages.
    """
    table = part()
    if table.is_empty():
        return None
    if FIELDS not in table.columns:
        return Rows(path, table.select(LINE, *(pl.col(str(header.index(name))).alias(name) for name in columns)))
    cells = (
        pl.col(FIELDS).list.get(header.index(name), null_on_oob=True).replace("", None).alias(name) for name in columns
    )
    rows = Rows(path, table.select(LINE, *cells, num_fields=pl.col(FIELDS).list.len()))
    rows.refuse(pl.col("num_fields") != width, f"{{}} fields, expected {width}", "num_fields")
    # Cells of such a row stand in the wrong columns: further problems of it would mislead.
    rows.frame = rows.frame.filter(pl.col("num_fields") == width).drop("num_fields")
    return rows


def _check_header(header: list[str], columns: Sequence[str], path: str, others: Others) -> None:
    """Raise a ManifestError that names missing and unknown columns, unless `header` is (or has) `columns`."""
    missing = [f"missing column: {name}" for name in columns if name not in header]
    if others == "pass over":
        twice = [f"column {name} stands {header.count(name)} times" for name in columns if header.count(name) > 1]
        if missing or twice:
            raise ManifestError(f"{path}: line 1: found the columns {','.join(header)}", [*missing, *twice])
    elif header != list(columns):
        unknown = [f"unknown column: {name!r}" for name in header if name not in columns]
        problems = [*missing, *unknown] or ["columns in another order or repeated: " + ",".join(header)]
        raise ManifestError(f"{path}: line 1: expected the columns {','.join(columns)}", problems)
