"""Text with quotation marks: what Polars' reader is trusted with is what Python's csv module reads, to the line."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests import lines
from manifests.errors import ManifestError
from manifests.lines import FIELDS, LINE, quoted_tables

Found = list[tuple[int, list[str]]]

HEADER = '"a",b\n'


def by_the_csv_module(text: str) -> Found | None:
    """Return the number of the first line and the fields of every row that is not blank; None: an error."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found = []
    begin = 1
    try:
        for row in reader:
            if row:
                found.append((begin, row))
            begin = reader.line_num + 1
    except csv.Error:
        return None
    return found


def by_parts(text: str, num_rows: int | None) -> Found | None:
    """Return the same of `quoted_tables`."""
    found: Found = []
    try:
        for table in quoted_tables(text, "x.csv", num_rows):
            for cells in table.iter_rows(named=True):
                line = cells.pop(LINE)
                row = cells[FIELDS] if FIELDS in cells else [cell or "" for cell in cells.values()]
                found.append((line, row))
    except ManifestError:
        return None
    return found


@given(st.text('ab,"\n', max_size=60), st.sampled_from([1, 2, 3, None]))
def test_any_text_is_read_as_the_csv_module_reads_it(text: str, num_rows: int | None) -> None:
    assert by_parts(HEADER + text, num_rows) == by_the_csv_module(HEADER + text)


@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=6),
            min_size=3,
            max_size=3,
        ),
        min_size=1,
        max_size=10,
    ),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from([1, 4, None]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_any_table_is_read_as_it_was_written(
    table: list[list[str]], quoting: int, num_rows: int | None, newline: str
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=quoting, lineterminator=newline).writerows([["x", "y,", "z"], *table])  # type: ignore[arg-type] # quoting
    found = by_parts(text.getvalue(), num_rows)
    assert found == by_the_csv_module(text.getvalue())
    assert found is not None
    assert [cells for _, cells in found[1:]] == table


def test_a_long_regular_text_is_not_left_to_the_csv_module(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f"{number},\"['a', 'b']\",\"x\ny\"\n" for number in range(1_000))
    expected = by_the_csv_module(f'n,"l",t\n{rows}')
    read_by_csv = []

    def spy(text: str) -> object:
        read_by_csv.append(text)
        return iter([text])

    monkeypatch.setattr(lines, "_lines_of", spy)
    assert by_parts(f'n,"l",t\n{rows}', 100) == expected
    assert read_by_csv == ['n,"l",t\n']


def test_from_the_first_cell_with_a_quotation_mark_the_csv_module_reads_on() -> None:
    text = HEADER + '"1",2\n' * 10 + '"say ""no""",3\n' + '"1",2\n' * 5
    assert by_parts(text, 4) == by_the_csv_module(text)
