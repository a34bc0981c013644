"""Other labels for the same images: those of experts, clean ones, or those of another labeller."""

import pyarrow as pa
import pyarrow.compute as pc

from manifests.errors import ManifestError
from manifests.findings import FINDINGS
from manifests.table import ManifestTable

_SEPARATOR = "\x1f"
"""Between dataset and image_id in a key; in neither of them."""


def relabelled(images: ManifestTable, labels: ManifestTable) -> ManifestTable:
    """Return the rows of `images` with the labels of `labels`, joined by (dataset, image_id).

    Order, splits and patients stay those of `images`. A row that `labels` does not have, and a finding that it does not
    label, is null: not labelled. Rows of `labels` without an image are not used.

    Raises:
        ManifestError: the two have no image in common.
    """
    row = _row_in(labels, images)
    if row.null_count == images.num_rows:
        raise ManifestError(
            f"no image in common: the pack has {images.num_rows:,} of {images.dataset}, the labels are for "
            f"{labels.num_rows:,} of {labels.dataset}; expected the same dataset and image_id"
        )
    table = images.table.drop_columns([name for name in FINDINGS if name in images.table.column_names])
    for name in labels.findings:
        table = table.append_column(name, labels.table.column(name).take(row))
    datasets = pc.unique(images.table.column("dataset")).to_pylist()
    labelled = {name: sorted(labels.labelled(name)) for name in datasets}
    return ManifestTable(table=table, metadata=images.metadata | {"labelled": labelled})


def refuse_other_splits(images: ManifestTable, labels: ManifestTable) -> None:
    """Refuse labels whose manifest has an image in another split: what one is chosen by, the other would train on.

    Raises:
        ManifestError: names the images, with both splits.
    """
    row = _row_in(labels, images)
    own, other = images.column("split"), labels.column("split").take(row)
    differing = pc.fill_null(pc.not_equal(own.cast(pa.string()), other.cast(pa.string())), False)
    if num_differing := pc.sum(differing).as_py():
        where = pc.indices_nonzero(differing)[: ManifestError.SHOWN + 1]
        found = zip(
            *(column.take(where).to_pylist() for column in (images.column("image_id"), own, other)), strict=True
        )
        raise ManifestError(
            f"{num_differing:,} images are in another split there; expected the splits of the pack: "
            "take labels that were made from the pack's own manifest",
            [f"{image}: {mine} in the pack, {theirs} with these labels" for image, mine, theirs in found],
        )


def _row_in(labels: ManifestTable, images: ManifestTable) -> pa.Array:
    """Return for each image its row in `labels`, null where it has none."""
    return pc.index_in(_keys(images.table), value_set=_keys(labels.table))


def _keys(table: pa.Table) -> pa.Array:
    columns = [pc.cast(table.column(name), pa.string()) for name in ("dataset", "image_id")]
    keys = pc.binary_join_element_wise(*columns, _SEPARATOR)
    return keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys
