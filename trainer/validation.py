"""What is measured on the validation split after each epoch."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import nn

from manifests.selection import Selection
from pipeline.loaders import Loader
from trainer.distributed import Ranks
from trainer.evaluation.metrics import measure
from trainer.inference import Prepare, infer


@dataclass(frozen=True, kw_only=True)
class Validation:
    """AUROC on the validation rows."""

    mean_auroc: float | None = None
    """Mean over the findings that have a value, without No Finding; None where none has."""

    auroc: dict[str, float | None]
    """Finding -> AUROC; None where a class is missing."""


def validate(
    module: nn.Module,
    loader: Loader,
    selection: Selection,
    *,
    prepare: Prepare,
    autocast: Callable[[], AbstractContextManager[object]],
    on_step: Callable[[int], None],
    ranks: Ranks,
) -> Validation:
    """Return on every rank the AUROC of `module` on a selection that `loader` reads; arguments as for `infer`."""
    sample_index_n, probs_nC = infer(module, loader, prepare, autocast=autocast, on_step=on_step, ranks=ranks)
    return ranks.from_first(partial(_measured, sample_index_n, probs_nC, selection))


def _measured(sample_index_n: np.ndarray, probs_nC: np.ndarray, selection: Selection) -> Validation:
    targets_nC, mask_nC = selection.targets_NC[sample_index_n], selection.mask_NC[sample_index_n]
    metrics = measure(probs_nC, targets_nC, mask_nC, selection.space.findings)
    return Validation(mean_auroc=metrics.mean_auroc, auroc={entry.finding: entry.auroc for entry in metrics.findings})
