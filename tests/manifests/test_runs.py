"""Runs and distinct values, against what plain Python makes of them."""

from itertools import groupby

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from manifests.runs import begins_run, count_distinct, first_of_runs

VALUES = st.lists(st.sampled_from(["a", "b", "", None]), max_size=12)


@given(VALUES)
def test_the_first_of_every_run_is_what_groupby_finds(values: list[str | None]) -> None:
    column = pl.Series("x", values, dtype=pl.String)
    assert first_of_runs(column).to_list() == [value for value, _ in groupby(values)]
    assert begins_run(column).to_list() == [not row or values[row - 1] != value for row, value in enumerate(values)]


@given(VALUES)
def test_distinct_values_are_those_of_a_set(values: list[str | None]) -> None:
    assert count_distinct(pl.Series("x", values, dtype=pl.String)) == len(set(values))
