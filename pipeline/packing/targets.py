"""Targets that samples carry for foreign readers; our own loaders gather theirs from the manifest."""

import numpy as np

from manifests.label_spaces import label_space
from manifests.selection import select
from manifests.table import ManifestTable


def targets_of(table: ManifestTable, space_name: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the findings of a label space, and the targets of every row: float32 [N, C].

    NaN stands where the dataset does not tell, where the label space ignores an uncertain label, and in whole rows that
    it leaves out.

    Raises:
        ConfigError: there is no such label space.
    """
    space = label_space(space_name)
    selection = select(table, space, None)
    outside_N = np.ones(table.num_rows, np.bool_)
    outside_N[selection.sample_index_n] = False
    targets_NC = np.where(selection.mask_NC & ~outside_N[:, None], selection.targets_NC, np.float32(np.nan))
    return space.findings, np.ascontiguousarray(targets_NC, np.float32)
