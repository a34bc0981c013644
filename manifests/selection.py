"""Selection = manifest + label space + split: which rows are used, their targets, and the class prior.

Nothing is copied or resampled: rows keep their number, so that the memory, the shards and the targets agree.
Shapes: N rows of the pack's manifest, n selected rows, C outputs of the label space.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from manifests.errors import ConfigError, ManifestError
from manifests.findings import NO_FINDING
from manifests.fraction import fraction_of
from manifests.label_spaces import LabelSpace, PriorForm
from manifests.schema import SPLITS
from manifests.table import BoolArray, ManifestTable, labels_NC
from manifests.views import frontal_views

NO_PIXELS = "rejected image"
NOT_FRONTAL = "view not frontal"
NO_AGE = "age unknown"
NO_POSITIVE = "no finding of the label space present"
NO_LABEL = "no label of the label space"
UNCERTAIN = -1
SMOOTH_RANGE = (0.55, 0.85)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The rows of one split that a label space uses, and the targets of every row."""

    space: LabelSpace
    """Names and order of the outputs."""

    split: str | None
    """train, valid or test; None: all of them."""

    sample_index_n: npt.NDArray[np.int64]
    """int64 [n], ascending: the selected rows."""

    targets_NC: npt.NDArray[np.float32]
    """float32 [N, C] of every row, selected or not: 0 or 1 (between, where uncertain labels are smoothed); 0 where
    masked."""

    mask_NC: BoolArray
    """bool [N, C]; False where the source did not label it, or where the label space ignores uncertain labels."""

    left_out: dict[str, int]
    """Reason -> rows of the split that are not selected; a row counts once, under its first reason."""

    @property
    def num_rows(self) -> int:
        """N, the rows of the manifest: the height of the memory."""
        return int(self.targets_NC.shape[0])

    @property
    def num_selected(self) -> int:
        """Number of selected rows, n."""
        return int(self.sample_index_n.shape[0])


def select(
    table: ManifestTable,
    space: LabelSpace,
    split: str | None,
    rejected: npt.NDArray[np.integer] | Sequence[int] = (),
) -> Selection:
    """Select the rows of `split` that have pixels, belong to `space`, and bear at least one of its labels.

    Args:
        table: the pack's manifest.
        space: outputs, rows it leaves out, what becomes of an uncertain label.
        split: train, valid, test, or None for all rows.
        rejected: sample_index of the images that have no pixels.

    Raises:
        ConfigError: there is no such split.
    """
    if split is not None and split not in SPLITS:
        raise ConfigError(f"split {split!r}: unknown (there are: {', '.join(SPLITS)})")
    targets_NC, mask_NC = _targets(table, space)
    kept_N = np.ones(table.num_rows, np.bool_) if split is None else table.in_split(split)
    left_out: dict[str, int] = {}
    for reason, unwanted_N in _reasons(table, space, mask_NC, rejected):
        left_out[reason] = left_out.get(reason, 0) + int(np.count_nonzero(kept_N & unwanted_N))
        kept_N &= ~unwanted_N
    return Selection(
        space=space,
        split=split,
        sample_index_n=np.flatnonzero(kept_N).astype(np.int64, copy=False),
        targets_NC=targets_NC,
        mask_NC=mask_NC,
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def class_prior(selection: Selection, form: PriorForm = "authors") -> npt.NDArray[np.float64]:
    """Return float64 [C]: how often each output is 1 among the unmasked entries of the selected rows.

    `plain` is that frequency. `authors` (the form of NVUM's published code) is, for a finding, its frequency times
    (1 - that of No Finding), and for No Finding its frequency; a label space without No Finding has the plain form.
    Nothing is below 1 / (n + 1): a class without positives keeps a finite logarithm.

    Raises:
        ManifestError: no row is selected.
    """
    if selection.num_selected == 0:
        where = "the manifest" if selection.split is None else f"split {selection.split}"
        raise ManifestError(f"label space {selection.space.name}: no row of {where} is selected, so there is no prior")
    mask_nC = selection.mask_NC[selection.sample_index_n]
    positives_C = selection.targets_NC[selection.sample_index_n].sum(axis=0, where=mask_nC, dtype=np.float64)
    prior_C = positives_C / np.maximum(mask_nC.sum(axis=0), 1)
    if form == "authors" and selection.space.has_no_finding:
        no_finding = selection.space.findings.index(NO_FINDING)
        for column in selection.space.disease_columns:
            prior_C[column] *= 1 - prior_C[no_finding]
    return np.asarray(np.maximum(prior_C, 1 / (selection.num_selected + 1)))


def _targets(table: ManifestTable, space: LabelSpace) -> tuple[npt.NDArray[np.float32], BoolArray]:
    """Return targets and mask of every row under the label space's policies for uncertain labels and for blanks."""
    values_NC, mask_NC = labels_NC(table, space.findings)
    if space.blank == "zeros":
        # An image without any label at all was not read, or its label was lost: nothing is known of it.
        has_label_N = labels_NC(table, table.findings)[1].any(axis=1)
        for dataset, rows_N in rows_by_dataset(table).items():
            labelled = table.labelled(dataset)
            labelled_C = np.array([name in labelled for name in space.findings], np.bool_)
            mask_NC |= (rows_N & has_label_N)[:, None] & labelled_C
    uncertain_NC = values_NC == UNCERTAIN
    targets_NC = (values_NC == 1).astype(np.float32)
    if space.uncertainty == "ones":
        targets_NC[uncertain_NC] = 1
    elif space.uncertainty == "ignore":
        mask_NC &= ~uncertain_NC
    elif space.uncertainty == "smooth":
        in_training_N = table.in_split("train")
        mask_NC &= ~uncertain_NC | in_training_N[:, None]
        smoothed_NC = uncertain_NC & in_training_N[:, None]
        targets_NC[smoothed_NC] = smooth_targets(table, space.findings, smoothed_NC)
    return targets_NC, mask_NC


def _reasons(
    table: ManifestTable, space: LabelSpace, mask_NC: BoolArray, rejected: npt.NDArray[np.integer] | Sequence[int]
) -> Iterator[tuple[str, BoolArray]]:
    """Yield each reason for leaving a row out and the rows [N] that it concerns, the first that counts first."""
    rejected_N = np.zeros(table.num_rows, np.bool_)
    rejected_N[np.asarray(rejected, np.int64)] = True
    yield NO_PIXELS, rejected_N
    for dataset, rows_N in rows_by_dataset(table).items():
        rules = space.rules_on(dataset)
        if rules.frontal_only:
            yield NOT_FRONTAL, rows_N & table.is_other("view", frontal_views(dataset))
        if rules.known_age_only:
            yield NO_AGE, rows_N & table.is_null("age_years") & ~table.in_split("test")
        values_NR, _ = labels_NC(table, rules.leaves_out_rows_with)
        for column, name in enumerate(rules.leaves_out_rows_with):
            yield f"{name} present", rows_N & (values_NR[:, column] == 1)
        if rules.drops_rows_without_positive:
            values_NC, _ = labels_NC(table, space.findings)
            yield NO_POSITIVE, rows_N & ~(values_NC == 1).any(axis=1)
    yield NO_LABEL, np.logical_not(mask_NC.any(axis=1))


def rows_by_dataset(table: ManifestTable) -> dict[str, BoolArray]:
    """Return dataset -> bool [N], its rows, in the order of their first row."""
    if "dataset" not in table.table.column_names:
        return {table.dataset: np.ones(table.num_rows, np.bool_)}
    names = pc.unique(table.column("dataset")).to_pylist()
    return {name: table.is_any_of("dataset", (name,)) for name in names}


def smooth_targets(table: ManifestTable, findings: Sequence[str], smoothed_NC: BoolArray) -> npt.NDArray[np.float32]:
    """Return float32 [number of True in `smoothed_NC`], uniform in [0.55, 0.85): U-Ones with label smoothing.

    Each is a hash of dataset, image and finding alone, so that it never changes: not from epoch to epoch, not with the
    rows around it. Source: Pham et al., "Interpreting chest X-rays via CNNs that exploit hierarchical disease
    dependencies and uncertainty labels", 2020, who draw them anew.
    """
    rows, columns = np.nonzero(smoothed_NC)
    images = table.table.select(["dataset", "image_id"]).take(rows).to_pylist()
    named = zip(images, columns.tolist(), strict=True)
    keys = (f"{image['dataset']}:{image['image_id']}:{findings[column]}" for image, column in named)
    low, high = SMOOTH_RANGE
    return np.fromiter((low + (high - low) * fraction_of(key) for key in keys), np.float32, count=len(rows))
