"""Counts of a manifest, for people and for JSON: splits, findings, co-occurrence, and what each label space selects.

Shapes: N rows, C findings of the manifest.
"""

from typing import Any

import numpy as np
import pyarrow.compute as pc

from manifests.errors import ManifestError
from manifests.label_spaces import LABEL_SPACES, LabelSpace
from manifests.schema import NEVER_NULL, REQUIRED_COLUMNS, SPLITS
from manifests.selection import class_prior, select
from manifests.stats_flow import flows
from manifests.table import BoolArray, ManifestTable, labels_NC

ALL = "all"
"""Key of the counts over every split."""

NOT_GIVEN = "not given"
"""Key of the rows where the release does not tell a view or a sex."""


def manifest_stats(table: ManifestTable) -> dict[str, Any]:
    """Return everything that `cxr-prep stats --json` prints; the keys are stable."""
    rows = {split: table.in_split(split) for split in SPLITS} | {ALL: np.ones(table.num_rows, np.bool_)}
    return {
        "dataset": table.dataset,
        "schema_version": table.metadata["schema_version"],
        "sources": table.metadata.get("sources", []),
        "split_rule": table.metadata.get("split", {}),
        "counts": table.metadata.get("counts", {}),
        "exclusions": table.metadata.get("exclusions", {}),
        "exclusion_meanings": table.metadata.get("exclusion_meanings", {}),
        "flow": flows(table.metadata, table.num_rows),
        "splits": {split: split_stats(table, selected_N) for split, selected_N in rows.items()},
        "findings": finding_stats(table, rows),
        "not_given": {name: int(table.column(name).null_count) for name in REQUIRED_COLUMNS if name not in NEVER_NULL},
        "co_occurrence": co_occurrence(table),
        "label_spaces": {
            name: label_space_stats(table, space)
            for name, space in LABEL_SPACES.items()
            if set(space.findings) <= set(table.findings)  # others cannot be trained on this manifest
        },
    }


def split_stats(table: ManifestTable, selected_N: BoolArray) -> dict[str, Any]:
    """Return images, patients, views, sexes and ages of the rows in `selected_N`, bool [N]."""
    rows = table.table.filter(selected_N)
    return {
        "images": rows.num_rows,
        "patients": len(pc.unique(rows.column("patient_id"))),
        "views": _value_counts(rows.column("view")),
        "sex": _value_counts(rows.column("sex")),
        "age_years": _quartiles(rows.column("age_years")),
        "age_decades": _decades(rows.column("age_years")),
    }


def finding_stats(table: ManifestTable, rows: dict[str, BoolArray]) -> dict[str, dict[str, dict[str, int]]]:
    """Return finding -> split -> positive, negative, uncertain, not_labelled; `rows` is split -> bool [N]."""
    values_NC, labelled_NC = labels_NC(table, table.findings)
    kinds_NC = {
        "positive": labelled_NC & (values_NC == 1),
        "negative": labelled_NC & (values_NC == 0),
        "uncertain": labelled_NC & (values_NC == -1),
        "not_labelled": ~labelled_NC,
    }
    return {
        name: {
            split: {kind: int(flags_NC[selected_N, column].sum()) for kind, flags_NC in kinds_NC.items()}
            for split, selected_N in rows.items()
        }
        for column, name in enumerate(table.findings)
    }


def co_occurrence(table: ManifestTable) -> dict[str, Any]:
    """Return how many images bear both of two findings; on the diagonal, one."""
    values_NC, _ = labels_NC(table, table.findings)
    present_NC = (values_NC == 1).astype(np.float64)  # counts up to 2**53 are exact, and BLAS is fast on floats
    counts_CC = (present_NC.T @ present_NC).astype(np.int64)
    return {"findings": list(table.findings), "counts": counts_CC.tolist()}


def label_space_stats(table: ManifestTable, space: LabelSpace) -> dict[str, Any]:
    """Return rows selected and left out a split, and the priors of the training selection (None without a row)."""
    selections = {split: select(table, space, split) for split in SPLITS}
    priors: dict[str, dict[str, float] | None] = {}
    for form in ("plain", "authors"):
        try:
            prior_C = class_prior(selections["train"], form)
            priors[form] = dict(zip(space.findings, prior_C.tolist(), strict=True))
        except ManifestError:
            priors[form] = None
    if not space.has_no_finding:
        priors["authors"] = None
    return {
        "findings": list(space.findings),
        "selected": {split: selection.num_selected for split, selection in selections.items()},
        "left_out": {split: selection.left_out for split, selection in selections.items()},
        "train_priors": priors,
    }


def _value_counts(column: Any) -> dict[str, int]:
    counts = {entry["values"] or NOT_GIVEN: entry["counts"] for entry in pc.value_counts(column).to_pylist()}
    return dict(sorted(counts.items()))


def _quartiles(column: Any) -> dict[str, float | int | None]:
    known = column.drop_null().to_numpy()
    names = ("min", "first_quartile", "median", "third_quartile", "max")
    values = np.quantile(known, (0, 0.25, 0.5, 0.75, 1)).tolist() if len(known) else [None] * len(names)
    return {"known": len(known), **dict(zip(names, values, strict=True))}


def _decades(column: Any) -> dict[str, int]:
    """Return first year of a decade, as text -> rows, without gaps up to the oldest."""
    known = column.drop_null().to_numpy()
    counts = np.bincount((known // 10).astype(np.int64))
    return {str(10 * decade): count for decade, count in enumerate(counts.tolist())}
