"""What a build leaves out: counted in the manifest, listed beside it, never a reason to stop."""

from collections.abc import Mapping

import polars as pl

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


COLUMNS = {"reason": pl.String, "image_id": pl.String, "path": pl.String}
"""Column -> type of the list of what was left out."""


def listed(reason: str, image_ids: pl.Series | None = None, paths: pl.Series | None = None) -> pl.DataFrame:
    """Return one line a row or file that `reason` leaves out; rows have an image_id, files a path."""
    columns = {"image_id": image_ids, "path": paths}
    frame = pl.DataFrame({name: values for name, values in columns.items() if values is not None})
    return frame.select(
        pl.lit(reason).alias("reason"),
        *(pl.col(name) if name in frame.columns else pl.lit(None, pl.String).alias(name) for name in columns),
    )


def split_off(frame: pl.DataFrame, rules: Mapping[str, pl.Expr]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows of `frame` for which no rule holds, and one line a row for which one does, under its first.

    Args:
        frame: has the columns image_id and path.
        rules: rule -> where it holds (null counts as no).
    """
    reason: pl.Expr = pl.lit(None, pl.String)
    for rule, holds in reversed(list(rules.items())):
        reason = pl.when(holds).then(pl.lit(rule)).otherwise(reason)
    marked = frame.with_columns(reason.alias("reason"))
    leaves = pl.col("reason").is_not_null()
    return marked.filter(~leaves).drop("reason"), marked.filter(leaves).select(*COLUMNS)
