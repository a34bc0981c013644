"""Which file belongs to which label row."""

from pathlib import Path

import polars as pl

from manifests import left_out
from manifests.dataset import OFFICIAL, Labels
from manifests.errors import ManifestError
from manifests.listing import Listing


def match(
    labels: Labels, listing: Listing, root: Path, *, parts: int = 1, allow_missing: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Match label rows and files by the last parts of their paths.

    Args:
        labels: the label rows of the release.
        listing: its image files.
        root: its folder, for messages.
        parts: how many last parts of a path must agree: 1, the file names.
        allow_missing: keep rows without a file, with the path that the release would give them.

    Returns:
        the rows that stay, in their order, `path` being where the file is (and `has_file` whether there is one); and
        one line a row or file that does not.

    Raises:
        ManifestError: rows that have a file in two folders.
    """
    files = files_by_key(listing, parts)
    excluded = pl.DataFrame(schema=left_out.COLUMNS) if labels.excluded is None else labels.excluded
    if files.is_empty():
        rows = labels.frame.with_columns(path_of_file=pl.lit(None, pl.String))
        unmatched = files["path"]
    else:
        rows = labels.frame.with_columns(key=path_key(labels.frame["path"], parts))
        _refuse_ambiguous(files, rows["key"], root)
        rows = rows.join(files, on="key", how="left", maintain_order="left", suffix="_of_file")
        known = pl.concat([rows["key"], path_key(excluded["path"].drop_nulls(), parts)])
        unmatched = files.filter(~pl.col("key").is_in(known.implode()))["path"].sort()
    in_list = pl.col(OFFICIAL).is_not_null() if labels.has_official_split else pl.lit(True)
    has_file = pl.col("path_of_file").is_not_null()
    may_stay = in_list & (has_file | allow_missing)
    lines = pl.concat(
        [
            excluded.select(*left_out.COLUMNS),
            left_out.listed(left_out.IN_NO_OFFICIAL_LIST, rows.filter(~in_list)["image_id"]),
            left_out.listed(left_out.ROW_WITHOUT_FILE, rows.filter(in_list & ~may_stay)["image_id"]),
            left_out.listed(left_out.FILE_WITHOUT_ROW, paths=unmatched),
            left_out.listed(
                left_out.UNREADABLE_NAME, paths=pl.Series("path", sorted(listing.unreadable_names), dtype=pl.String)
            ),
        ]
    )
    kept = rows.filter(may_stay).with_columns(
        has_file.alias("has_file"), pl.coalesce("path_of_file", "path").alias("path")
    )
    return kept, lines


def files_by_key(listing: Listing, parts: int = 1) -> pl.DataFrame:
    """Return `key`, by which rows find their file, and `path`, relative to the root, of every image file."""
    folders = [f"{folder}/" if folder else "" for folder in listing.images]
    files = pl.DataFrame(
        {"folder": folders, "name": list(listing.images.values())},
        schema={"folder": pl.String, "name": pl.List(pl.String)},
    ).explode("name", empty_as_null=False)
    path = files.select(path=pl.col("folder") + pl.col("name")).to_series()
    return pl.DataFrame({"key": path_key(path, parts), "path": path})


def path_key(paths: pl.Series, parts: int = 1) -> pl.Series:
    """Return the last `parts` parts of paths, the file's ending in lower case: other systems may make it ``.JPG``."""
    frame = paths.to_frame("path")
    if paths.str.contains("/", literal=True).any():
        tail = pl.col("path").str.split("/").list.tail(parts).list.join("/")
        frame = frame.select(path=tail)
    if not frame["path"].str.contains(r"\.[^./]*[A-Z][^./]*$").any():
        return frame["path"].alias("key")
    stem_and_ending = pl.DataFrame(frame["path"].str.extract_groups(r"^(.*)(\.[^.]*)$").struct.unnest())
    return stem_and_ending.select(key=pl.col("1") + pl.col("2").str.to_lowercase()).to_series()


def _refuse_ambiguous(files: pl.DataFrame, keys: pl.Series, root: Path) -> None:
    if files["key"].n_unique() == len(files):
        return
    twice = files.filter(pl.col("key").is_duplicated() & pl.col("key").is_in(keys.implode()))
    if twice.is_empty():
        return
    paths = twice.group_by("key").agg(pl.col("path").sort()).sort("key")
    folders = sorted({path.rpartition("/")[0] or "." for path in twice["path"]})
    raise ManifestError(
        f"{root}: {len(paths):,} file names are in more than one folder; choose one with --images SUBDIR "
        f"({' or '.join(folders[:5])})",
        [", ".join(same) for same in paths["path"]],
    )
