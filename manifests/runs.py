"""Values of which equal ones mostly stand together, and values of which most are distinct: faster than in general.

The rows of one patient stand together in every release, so that runs are hardly more than patients. Where equal values
stand apart, a value begins several runs.
"""

from collections.abc import Callable

import polars as pl


def first_of_runs(values: pl.Series) -> pl.Series:
    """Return the first of every run of equal `values` (null equals null), in their order."""
    return values.filter(begins_run(values))


def begins_run(values: pl.Series) -> pl.Series:
    """Return Boolean [n]: whether a value differs from the one before it; the first does."""
    differs = values.ne_missing(values.shift())
    return differs.scatter(0, True) if len(values) else differs


def by_runs(values: pl.Series, function: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Return `function` of `values`, which makes one value of each, called on the first of every run only."""
    begins = begins_run(values)
    return function(values.filter(begins)).gather(begins.cast(pl.UInt32).cum_sum() - 1)


def count_distinct(values: pl.Series) -> int:
    """Return the number of distinct `values`: at once where all are, as distinct hashes prove distinct values."""
    return len(values) if values.hash().n_unique() == len(values) else values.n_unique()
