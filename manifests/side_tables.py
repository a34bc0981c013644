"""Tables beside a manifest, ``<manifest>.<name>.csv``: they appear with it, neither without the other."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import polars as pl

from manifests.atomic import atomic_path

LEFT_OUT = "left-out"
"""Name of the list of what was left out."""

UNMAPPED = "unmapped-terms"
"""Name of the list of words that name no finding."""


def side_table_path(manifest: Path, name: str) -> Path:
    """Return where the side table called `name` lies."""
    return manifest.with_name(f"{manifest.stem}.{name}.csv")


@contextmanager
def written_beside(manifest: Path, tables: Mapping[str, pl.DataFrame]) -> Iterator[None]:
    """Let the block write `manifest`, and `tables` (name -> table) appear with it.

    A table without a row is not written, and the one that an earlier build left in its place is removed.
    """
    with ExitStack() as appearing:
        for name, table in tables.items():
            if not table.is_empty():
                table.write_csv(appearing.enter_context(atomic_path(side_table_path(manifest, name))))
        yield
    for name, table in tables.items():
        if table.is_empty():
            side_table_path(manifest, name).unlink(missing_ok=True)
