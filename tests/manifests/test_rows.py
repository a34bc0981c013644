"""Reading comma-separated rows: the fast path against Python's csv module, and every refusal with its line."""

import csv
import io
from collections.abc import Sequence
from threading import Event
from typing import Literal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import ManifestError
from manifests.lines import LINE
from manifests.rows import Rows, one_of, read_in_parts, read_rows

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


ANY_CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)


@given(
    st.lists(st.lists(ANY_CELLS, min_size=1, max_size=3), min_size=1, max_size=12),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.integers(1, 5),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_in_parts_or_whole_as_bytes_or_text_the_rows_and_problems_are_the_same(
    table: list[list[str]], quoting: Literal[0, 1], num_rows: int, newline: str
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=quoting, lineterminator=newline).writerows([COLUMNS, *table])

    def check(rows: Rows) -> pl.DataFrame:
        rows.refuse_blank("b")
        return rows.frame.drop(LINE)

    whole = rows_of(text.getvalue())
    whole.refuse_blank("b")
    content = text.getvalue().encode()
    parts = read_in_parts(content, COLUMNS, check, path="labels.csv", num_rows=num_rows)
    assert parts.frame.select(LINE, *COLUMNS).rows() == whole.frame.rows()
    assert sorted(parts.problems) == sorted(whole.problems)


@pytest.mark.parametrize("broken", ["1,2,3\n1\n", "1,2\n\n1,2,3\n1\n", "\n1,2,3\n4,5\n", "1,2\n,,\n\n"])
def test_lines_whose_fields_make_up_for_one_another_are_told_apart(broken: str) -> None:
    rows = rows_of(f"a,b\n{broken}")
    quoted = rows_of(f'"a","b"\n{broken}')
    assert rows.problems == quoted.problems != []
    assert rows.frame.rows() == quoted.frame.rows()


def test_problems_of_all_parts_are_reported_together() -> None:
    def check(rows: Rows) -> pl.DataFrame:
        return pl.DataFrame([rows.frame["a"], rows.whole_number("b", at_least=0)])

    rows = read_in_parts("a,b\nx,1\ny,?\nz\nx,2\n", COLUMNS, check, path="labels.csv", num_rows=1)
    rows.refuse_repeats("a")
    assert problems_of(rows) == [
        "line 3: b '?': expected a whole number from 0 to 2147483647",
        "line 4: 1 fields, expected 2",
        "line 5: a 'x' again (first on line 2)",
    ]


def test_parts_keep_their_order_whichever_is_checked_first() -> None:
    another_is_checked = Event()

    def check(rows: Rows) -> pl.DataFrame:
        if rows.frame[LINE][0] == 2:
            assert another_is_checked.wait(timeout=60)
        else:
            another_is_checked.set()
        return rows.frame.drop(LINE)

    rows = read_in_parts("a,b\n" + "x,1\n" * 9, COLUMNS, check, path="labels.csv", num_rows=1)
    assert rows.frame[LINE].to_list() == [*range(2, 11)]


def test_an_error_while_a_part_is_checked_is_the_callers() -> None:
    def check(rows: Rows) -> pl.DataFrame:
        raise ManifestError(f"line {rows.frame[LINE][0]}")

    with pytest.raises(ManifestError, match=r"^line 2$"):
        read_in_parts("a,b\nx,1\ny,2\nz,3\n", COLUMNS, check, path="labels.csv", num_rows=1)


def test_columns_may_be_asked_for_by_name_among_others() -> None:
    rows = read_rows(",b,c,a\n1,2,3,4\n", COLUMNS, path="labels.csv", others="pass over")
    assert rows.frame.rows() == [(2, "4", "2")]
    with pytest.raises(ManifestError) as caught:
        read_rows("a,c,a\n1,2,3\n", COLUMNS, path="labels.csv", others="pass over")
    assert caught.value.problems == ("missing column: b", "column a stands 2 times")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_any_system_ends_them(end: str) -> None:
    assert rows_of(end.join(["a,b", "1,2", "", "3,4"])).frame.rows() == [(2, "1", "2"), (4, "3", "4")]


def test_labels_are_four_things() -> None:
    rows = rows_of("a,b\n1.0,1\n0.0,0\n-1.0,-1\n,x\n")
    a, b = rows.labels({"a": "Mass", "b": "Nodule"})
    assert a.to_list() == [1, 0, -1, None]
    assert (a.name, a.dtype) == ("Mass", pl.Int8())
    assert b.to_list() == [1, 0, -1, None]
    assert problems_of(rows) == ["line 5: b 'x': expected 1, 0, -1 or blank"]


WORDS, OTHERS = ["", "1.0", "0.0", "-1.0", "1", "0", "-1"], ["-0.0", "1.00", "1e0", "nan", "inf", "+1", " 1", "2", "x"]


@given(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=8)
    | st.lists(st.sampled_from(WORDS[:4]), min_size=1, max_size=8)
    | st.lists(st.sampled_from([*WORDS, *OTHERS]), min_size=1, max_size=8),
    st.integers(1, 4),
)
def test_labels_that_never_become_text_are_those_that_do(cells: list[str], num_rows: int) -> None:
    text = "\n".join(["a,b", *(f"x,{cell}" for cell in cells), ""])

    def check(rows: Rows) -> pl.DataFrame:
        return pl.DataFrame([rows.frame["a"], *rows.labels({"b": "Mass"})])

    def read(labels: Sequence[str]) -> Rows:
        return read_in_parts(text, COLUMNS, check, path="labels.csv", num_rows=num_rows, labels=labels)

    as_text, as_labels = read(()), read(["b"])
    if set(cells) <= set(WORDS):
        assert as_labels.frame.equals(as_text.frame)
    refused = {line for line, _ in as_labels.problems}
    assert refused <= {line for line, _ in as_text.problems}
    for line, cell, label in zip(as_labels.frame[LINE], cells, as_labels.frame["Mass"], strict=True):
        assert (label is None) == (line in refused or not cell)
        assert label is None or label == float(cell)
