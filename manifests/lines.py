"""Lines of a comma-separated text and their fields, in parts: a fast way for most files, a plain one for the rest.

Without a quotation mark in the file (the normal case) a line is a row; with one, Python's csv module reads it.
"""

import csv
import io
from collections.abc import Iterator

import polars as pl

from manifests.errors import ManifestError

LINE = "line"
"""Column of the line numbers, 1 being the header's."""

FIELDS = "fields"
"""Column of a row's cells before they become columns."""


def text_lines(text: str) -> pl.DataFrame:
    """Return number and text of every line that is not blank; a line ends with LF, CR LF or CR."""
    return numbered_lines(unix_lines(text), first=1)


def unix_lines(text: str) -> str:
    """Return `text` with LF at the end of every line."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def numbered_lines(text: str, *, first: int) -> pl.DataFrame:
    """Return number, counted from `first`, and text of every line that is not blank; a line ends with LF."""
    lines = pl.Series("text", [text]).str.split("\n").explode()
    numbers = pl.int_range(first, first + len(lines), eager=True).alias(LINE)
    return pl.DataFrame([numbers, lines]).filter(pl.col("text") != "")


def plain_tables(text: str, num_rows: int | None) -> Iterator[pl.DataFrame]:
    """Yield the header, then the other lines of a text without quotation marks, in parts of about `num_rows`."""
    begin = len(text) - len(text.lstrip("\n"))
    end = text.find("\n", begin) + 1 or len(text)
    header = text[begin:end].rstrip("\n").split(",")
    yield pl.DataFrame({LINE: [begin + 1], FIELDS: [header]})
    first = begin + 2
    second = text.find("\n", end) + 1 or len(text)
    size = len(text) if num_rows is None else num_rows * max(1, second - end)  # of lines like the second
    while end < len(text):
        begin, end = end, text.find("\n", end + size) + 1 or len(text)
        part = text[begin:end]
        num_lines = part.count("\n") + (not part.endswith("\n"))
        table = _regular_table(part, num_lines, len(header))
        if table is None:
            table = numbered_lines(part, first=first).select(LINE, pl.col("text").str.split(",").alias(FIELDS))
        else:
            table = table.with_columns(pl.int_range(first, first + num_lines).alias(LINE))
        yield table
        first += num_lines


def _regular_table(text: str, num_lines: int, width: int) -> pl.DataFrame | None:
    """Return one column a field, called 0, 1, ..., from Polars' CSV reader, in half the time of splitting.

    It reads lines with too few or too many fields in its own ways, which changed between versions; so only a text is
    read whose lines can be shown to have `width` fields each. For any other: None.
    """
    if width == 1 or text.count(",") != num_lines * (width - 1):
        return None
    content = text.encode()
    schema = {str(position): pl.String for position in range(width)}
    try:
        table = pl.read_csv(content, schema=schema, has_header=False, quote_char=None)
    except pl.exceptions.PolarsError:  # a line has too many fields, so that others have too few or are blank
        return None
    if len(table) != num_lines:
        return None
    # Had a field been dropped, its bytes would be missing.
    num_bytes = sum(table.select(pl.all().str.len_bytes().cast(pl.Int64).sum()).row(0))
    num_ends = num_lines * width - (not text.endswith("\n"))
    return table if num_bytes + num_ends == len(content) else None


def quoted_tables(text: str, path: str, num_rows: int | None) -> Iterator[pl.DataFrame]:
    """Yield the header, then the other rows of a text with quotation marks, in parts of `num_rows`.

    A row that goes over several lines has the number of the first.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[int] = []
    fields: list[list[str]] = []
    begin = 1
    limit = 1
    try:
        for row in reader:
            if row:
                lines.append(begin)
                fields.append(row)
            if len(lines) == limit:
                yield _table_of(lines, fields)
                lines, fields = [], []
                limit = num_rows or -1
            begin = reader.line_num + 1
    except csv.Error as error:
        raise ManifestError(f"{path}: line {begin:,}: {error}; a quotation mark is missing or too many") from error
    yield _table_of(lines, fields)


def _table_of(lines: list[int], fields: list[list[str]]) -> pl.DataFrame:
    return pl.DataFrame({LINE: lines, FIELDS: fields}, schema={LINE: pl.Int64, FIELDS: pl.List(pl.String)})
