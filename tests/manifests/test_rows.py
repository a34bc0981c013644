"""Reading comma-separated rows: the fast path against Python's csv module, and every refusal with its line."""

import csv
import io

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import ManifestError
from manifests.rows import LINE, Rows, one_of, read_rows

COLUMNS = ("a", "b")

CELLS = st.text(st.characters(exclude_characters='",\r\n\x1f', exclude_categories=["Cs"]), max_size=5)
TABLES = st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=8)


def rows_of(text: str) -> Rows:
    return read_rows(text, COLUMNS, path="labels.csv")


def problems_of(rows: Rows) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        rows.raise_problems()
    return list(caught.value.problems)


@given(TABLES, st.sampled_from(["\n", "\r\n"]))
def test_lines_split_by_polars_are_what_the_csv_module_reads(table: list[list[str]], newline: str) -> None:
    text = newline.join(["a,b", *(",".join(cells) for cells in table)])
    plain, quoted = rows_of(text), rows_of(text.replace("a,b", '"a","b"', 1))
    assert plain.frame.equals(quoted.frame)
    assert plain.frame.rows() == [
        (line, *(cell or None for cell in cells)) for line, cells in enumerate(table, start=2)
    ]


@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1f\0"), max_size=5),
            min_size=2,
            max_size=2,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_quoted_cells_may_hold_anything(table: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([COLUMNS, *table])
    frame = rows_of(text.getvalue()).frame
    assert frame.drop(LINE).rows() == [tuple(cell or None for cell in cells) for cells in table]


def test_blank_lines_are_passed_over_and_counted_as_lines() -> None:
    assert rows_of("a,b\n\n1,2\n\n\n3,4\n\n").frame[LINE].to_list() == [3, 6]


def test_a_row_over_several_lines_has_the_number_of_its_first() -> None:
    assert rows_of('a,b\n"1\n1",2\n3,4\n').frame[LINE].to_list() == [2, 4]


@pytest.mark.parametrize("header", ["a,b,", "a,b,Unnamed: 2"])
def test_an_empty_last_column_is_passed_over(header: str) -> None:
    rows = rows_of(f"{header}\n1,2,\n")
    assert rows.frame.rows() == [(2, "1", "2")]
    rows.raise_problems()


@pytest.mark.parametrize("line", ["1", "1,2,3", "1,2,"])
def test_a_row_of_another_width_is_refused(line: str) -> None:
    rows = rows_of(f"a,b\n1,2\n{line}\n")
    assert problems_of(rows) == [f"line 3: {line.count(',') + 1} fields, expected 2"]


@pytest.mark.parametrize(
    ("header", "problems"),
    [
        ("a,c", ("missing column: b", "unknown column: 'c'")),
        ("a", ("missing column: b",)),
        ("b,a", ("columns in another order or repeated: b,a",)),
        ("a,b,b", ("columns in another order or repeated: a,b,b",)),
        (",a,b", ("unknown column: ''",)),
    ],
)
def test_another_header_is_refused_with_its_difference(header: str, problems: tuple[str, ...]) -> None:
    with pytest.raises(ManifestError, match=r"labels.csv: line 1: expected the columns a,b") as caught:
        rows_of(f"{header}\n1,2\n")
    assert caught.value.problems == problems


def test_a_header_without_rows_is_refused() -> None:
    with pytest.raises(ManifestError, match="no row below the header"):
        rows_of("a,b\n")


def test_a_quotation_that_never_ends_is_refused_with_its_line() -> None:
    with pytest.raises(ManifestError, match=r"line 3: .*quotation mark"):
        rows_of('a,b\n1,2\n"3,4\n5,6\n')


def test_all_problems_are_reported_together_by_line() -> None:
    rows = rows_of("a,b\nx,\n,3\nx,2.5\n")
    rows.refuse_blank("a")
    rows.refuse_repeats("a")
    rows.whole_number("b", at_least=3)
    rows.refuse(pl.col("b") == "3", "b is {}", "b")
    assert problems_of(rows) == [
        "line 3: a is blank",
        "line 3: b is 3",
        "line 4: a 'x' again (first on line 2)",
        "line 4: b '2.5': expected a whole number from 3 to 2147483647",
    ]


def test_rows_without_problems_pass() -> None:
    rows = rows_of("a,b\n1,2\n")
    rows.refuse_blank(*COLUMNS)
    rows.refuse_repeats("a")
    rows.raise_problems()


def test_each_distinct_value_is_parsed_once_and_a_refusal_names_every_row() -> None:
    seen: list[str] = []

    def parser(text: str) -> str:
        seen.append(text)
        return one_of("x", "y")(text)

    rows = rows_of("a,b\nx,1\ny,2\nx,3\nz,4\n,5\nz,6\n")
    assert rows.parse("a", parser, pl.String).to_list() == ["x", "y", "x", None, None, None]
    assert seen == ["x", "y", "z"]
    assert problems_of(rows) == ["line 5: a: 'z': expected x or y", "line 7: a: 'z': expected x or y"]


def test_findings_become_one_column_each() -> None:
    rows = rows_of("a,b\nM|N,1\n?,2\nN,3\n")
    columns = rows.expand("a", lambda text: one_of("M|N", "N")(text).split("|"), ["N", "M"])
    assert [(column.name, column.to_list()) for column in columns] == [("N", [1, None, 1]), ("M", [1, None, 0])]
    assert {column.dtype for column in columns} == {pl.Int8()}
