"""Lines of a comma-separated text and their fields, in parts: a fast way for most files, a plain one for the rest.

Without a quotation mark in the file (the normal case) a line is a row. What Polars' CSV reader makes of a part is taken
where it can be shown to be all of it; else the lines are split, or Python's csv module reads them.
"""

import csv
import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial

import polars as pl

from manifests.errors import ManifestError

LINE = "line"
"""Column of the line numbers, 1 being the header's."""

FIELDS = "fields"
"""Column of a row's cells before they become columns."""

Part = Callable[[], pl.DataFrame]
"""Reads a part of a text: `LINE`, and `FIELDS` or one column a field. Parts may be read at the same time."""

CELL = r'(?:"[^"]*"|[^",\n]*)'
"""A cell without a quotation mark in it, be it quoted or not."""


def text_lines(text: str) -> pl.DataFrame:
    """Return number and text of every line that is not blank; a line ends with LF, CR LF or CR."""
    return numbered_lines(unix_lines(text), first=1)


def unix_lines(text: str) -> str:
    """Return `text` with LF at the end of every line."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def unix_bytes(content: bytes) -> bytes:
    """Return `unix_lines` of UTF-8: CR and LF are no byte of another character."""
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in content else content


def numbered_lines(text: str, *, first: int) -> pl.DataFrame:
    """Return number, counted from `first`, and text of every line that is not blank; a line ends with LF."""
    lines = pl.Series("text", [text]).str.split("\n").explode()
    numbers = pl.int_range(first, first + len(lines), eager=True).alias(LINE)
    return pl.DataFrame([numbers, lines]).filter(pl.col("text") != "")


def plain_parts(content: bytes, num_rows: int | None, labels: Collection[str] = ()) -> Iterator[Part]:
    """Yield the header, then the other lines of a text without quotation marks, in parts of about `num_rows`.

    The text is UTF-8, as it comes from a file: Polars reads bytes. The columns `labels` are Int8 in a part where they
    hold 1, 0, -1 and blank only, all with ``.0`` or all without; else they are text, as the others are.
    """
    begin = len(content) - len(content.lstrip(b"\n"))
    end = content.find(b"\n", begin) + 1 or len(content)
    header = content[begin:end].decode().rstrip("\n").split(",")
    yield partial(pl.DataFrame, {LINE: [begin + 1], FIELDS: [header]})
    plain: dict[str, pl.DataType] = {str(position): pl.String() for position in range(len(header))}
    narrow = {str(position): pl.Float32() for position, name in enumerate(header) if name in labels}
    first = begin + 2
    second = content.find(b"\n", end) + 1 or len(content)
    size = len(content) if num_rows is None else num_rows * max(1, second - end)  # of lines like the second
    while end < len(content):
        begin, end = end, content.find(b"\n", end + size) + 1 or len(content)
        text = content[begin:end]
        num_lines = text.count(b"\n") + (not text.endswith(b"\n"))
        yield partial(_plain_table, text, first, num_lines, [{**plain, **narrow}, plain] if narrow else [plain])
        first += num_lines


def _plain_table(
    content: bytes, first: int, num_lines: int, schemas: Sequence[Mapping[str, pl.DataType]]
) -> pl.DataFrame:
    """Return the lines of a part: `LINE`, and the columns of the first of `schemas` that they fit, else `FIELDS`."""
    for schema in schemas:
        table = _regular_table(content, num_lines, schema)
        if table is not None:
            return table.with_columns(pl.int_range(first, first + num_lines).alias(LINE))
    return numbered_lines(content.decode(), first=first).select(LINE, pl.col("text").str.split(",").alias(FIELDS))


def _regular_table(content: bytes, num_lines: int, schema: Mapping[str, pl.DataType]) -> pl.DataFrame | None:
    """Return one column a field, called 0, 1, ..., from Polars' CSV reader, in half the time of splitting.

    It reads lines with too few or too many fields in its own ways, which changed between versions; so only a text is
    read whose lines can be shown to have one field each for `schema`. For any other: None. Columns that `schema` calls
    Float32 hold labels, and become Int8.
    """
    width = len(schema)
    if width == 1 or content.count(b",") != num_lines * (width - 1):
        return None
    if content[content.rfind(b"\n") + 1 :].count(b",") not in (0, width - 1):
        return None  # of a last line without an end it passes over an empty field too many
    try:
        table = pl.read_csv(content, schema=schema, has_header=False, quote_char=None)
    except pl.exceptions.PolarsError:  # too many fields in a line, so that others have too few; or a label is a word
        return None
    if len(table) != num_lines:
        return None
    # Had a field been dropped, its bytes would be missing.
    num_bytes = sum(table.select(pl.col(pl.String).str.len_bytes().cast(pl.Int64).sum()).row(0))
    num_ends = num_lines * width - (not content.endswith(b"\n"))
    rest = len(content) - num_bytes - num_ends
    if rest == 0:
        return table.cast({pl.Float32: pl.Int8})  # without a label, if any column is one
    return _labels_of(table, rest)


def _labels_of(table: pl.DataFrame, num_bytes: int) -> pl.DataFrame | None:
    """Return `table` with its Float32 columns as Int8; None where they hold other numbers, or are written otherwise.

    Another spelling of 1, 0 or -1 (``+1``) passes if another one makes up for its bytes: a label is never misread.
    """
    label = pl.col(pl.Float32)
    if label_names := [name for name, dtype in table.schema.items() if dtype == pl.Float32]:
        known, num_labels, num_negative = (
            table.select(part).row(0)
            for part in (((label == 0) | (label.abs() == 1)).all(), label.count(), (label < 0).sum())
        )
        num_digits = num_bytes - sum(num_negative)  # all written as 1, or all as 1.0
        if all(known) and num_digits in (sum(num_labels), sum(num_labels) * len("1.0")):
            # Of 1, 0 and -1 there is nothing to wrap, nor to look for.
            return table.with_columns(pl.col(label_names).cast(pl.Int8, wrap_numerical=True))
    return None


def quoted_tables(text: str, path: str, num_rows: int | None) -> Iterator[pl.DataFrame]:
    """Yield the header, then the other rows of a text with quotation marks, in parts of about `num_rows`.

    A row that goes over several lines has the number of the first.
    """
    end = text.find("\n") + 1
    if "\r" in text or not text[:end].strip() or text.count('"', 0, end) % 2:
        yield from _csv_tables(text, path, num_rows, first=1, header=True)
        return
    yield from _csv_tables(text[:end], path, None, first=1, header=True)
    width = len(next(csv.reader([text[:end]])))
    first = 2
    size = len(text) if num_rows is None else num_rows * max(1, text.find("\n", end) + 1 - end)
    while end < len(text):
        begin, end = end, _row_end(text, end, size)
        part = text[begin:end]
        table = _regular_quoted_table(part, width, first)
        if table is None:  # What follows cannot be cut into rows by counting quotation marks either.
            yield from _csv_tables(text[begin:], path, num_rows, first=first)
            return
        yield table
        first += part.count("\n")


def _row_end(text: str, begin: int, size: int) -> int:
    """Return the end of the line at `begin` + `size`, or of the first after it that no quotation goes beyond."""
    end = text.find("\n", begin + size) + 1 or len(text)
    is_open = text.count('"', begin, end) % 2 == 1
    while is_open and end < len(text):
        line, end = end, text.find("\n", end) + 1 or len(text)
        is_open ^= text.count('"', line, end) % 2 == 1
    return end


def _regular_quoted_table(text: str, width: int, first: int) -> pl.DataFrame | None:
    """Return `LINE` and one column a field, as `_regular_table`, many times as fast as Python's csv module.

    Only a text is read that is proven to be rows of `width` cells with no quotation mark in a cell; and what was read
    must make up the text: cells, quotation marks, commas and line ends. For any other: None.
    """
    regular = rf"\A(?:(?:{CELL},){{{width - 1}}}{CELL}(?:\n|\z))+\z"
    if width == 1 or not pl.Series([text]).str.contains(regular).all():
        return None
    content = text.encode()
    schema = {str(position): pl.String for position in range(width)}
    try:
        table = pl.read_csv(content, schema=schema, has_header=False)
    except pl.exceptions.PolarsError:
        return None
    num_bytes = sum(table.select(pl.all().str.len_bytes().cast(pl.Int64).sum()).row(0))
    num_ends = len(table) * width - (not text.endswith("\n"))
    if num_bytes + content.count(b'"') + num_ends != len(content):
        return None
    in_cells = pl.sum_horizontal(pl.all().str.count_matches("\n", literal=True).cast(pl.Int64))
    line = first + pl.int_range(pl.len()) + in_cells.cum_sum().shift(1, fill_value=0)
    return table.with_columns(line.alias(LINE), *(pl.col(name).replace("", None) for name in schema))


def _csv_tables(
    text: str, path: str, num_rows: int | None, *, first: int, header: bool = False
) -> Iterator[pl.DataFrame]:
    """Yield parts of `num_rows`, as Python's csv module reads them, with a `header` on its own before them.

    `first` is the number of the first line.
    """
    reader = csv.reader(io.StringIO(text, newline="") if "\r" in text else _lines_of(text), strict=True)
    lines: list[int] = []
    fields: list[list[str]] = []
    begin = first
    limit = 1 if header else num_rows or -1
    try:
        for row in reader:
            if row:
                lines.append(begin)
                fields.append(row)
            if len(lines) == limit:
                yield _table_of(lines, fields)
                lines, fields = [], []
                limit = num_rows or -1
            begin = first + reader.line_num
    except csv.Error as error:
        raise ManifestError(f"{path}: line {begin:,}: {error}; a quotation mark is missing or too many") from error
    yield _table_of(lines, fields)


def _lines_of(text: str) -> Iterator[str]:
    """Yield the lines of a text, which `io.StringIO` would copy at four bytes a character."""
    end = 0
    while end < len(text):
        begin, end = end, text.find("\n", end) + 1 or len(text)
        yield text[begin:end]


def _table_of(lines: list[int], fields: list[list[str]]) -> pl.DataFrame:
    return pl.DataFrame({LINE: lines, FIELDS: fields}, schema={LINE: pl.Int64, FIELDS: pl.List(pl.String)})
