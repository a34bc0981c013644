"""What a build leaves out: counted in the manifest, listed beside it, never a reason to stop."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from manifests.atomic import atomic_path

IN_NO_OFFICIAL_LIST = "row_in_no_official_list"
ROW_WITHOUT_FILE = "row_without_file"
FILE_WITHOUT_ROW = "file_without_row"
UNREADABLE_NAME = "file_name_not_utf8"

MEANING = {
    IN_NO_OFFICIAL_LIST: "label rows in no official list",
    ROW_WITHOUT_FILE: "label rows without a file",
    FILE_WITHOUT_ROW: "files without a label row",
    UNREADABLE_NAME: "files whose name is not UTF-8",
}
"""Rule -> what it counts, in the order of the summary; the rule is the key in the manifest's metadata."""


def left_out_path(manifest: Path) -> Path:
    """Return where the list of what was left out lies: beside the manifest."""
    return manifest.with_name(f"{manifest.stem}.left-out.csv")


def listed(reason: str, image_ids: pl.Series | None = None, paths: pl.Series | None = None) -> pl.DataFrame:
    """Return one line a row or file that `reason` leaves out; rows have an image_id, files a path."""
    columns = {"image_id": image_ids, "path": paths}
    frame = pl.DataFrame({name: values for name, values in columns.items() if values is not None})
    return frame.select(
        pl.lit(reason).alias("reason"),
        *(pl.col(name) if name in frame.columns else pl.lit(None, pl.String).alias(name) for name in columns),
    )


@contextmanager
def listed_beside(manifest: Path, lines: pl.DataFrame) -> Iterator[None]:
    """Let the block write `manifest`, and the list beside it appear with it: neither without the other.

    Without a line the list that an earlier build left there is removed.
    """
    path = left_out_path(manifest)
    if lines.is_empty():
        yield
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary:
        lines.write_csv(temporary)
        yield
