"""AUROCs of the runs on one test set at one checkpoint, over the same findings, images and draws of patients.

Letters of the shapes: N images, C findings, D draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manifests.findings import NO_FINDING
from trainer.evaluation.bootstrap import BootstrapConfig, bootstrap
from trainer.evaluation.intervals import FEWEST_CASES
from trainer.evaluation.metrics import measure
from trainer.evaluation.predictions import Predictions

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Measures:
    """One run on one test set."""

    auroc_C: FloatArray
    """AUROC of each finding that all runs have; NaN where there is none."""

    draws_DC: FloatArray | None
    """The same in draws of patients; None without draws, NaN where a finding has patients of one class only."""

    images: tuple[str, ...]
    """Images, in order: runs of which they are the same are drawn alike."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is measured on a test set."""

    names: tuple[str, ...]
    """Findings that all runs have an output for, in the order of the first run."""

    positives: tuple[int, ...]
    """Images of each with the label present, in the first run."""

    negatives: tuple[int, ...]
    """Images of each with the label absent, in the first run."""

    in_mean: tuple[bool, ...]
    """Whether a finding counts in the mean: enough images and patients of both classes, and not No Finding."""

    patients: tuple[int, ...]
    """Patients of each with an image on which it is present, in the first run."""

    is_measured: tuple[bool, ...]
    """Whether enough patients of both classes are there, in all runs; the AUROC of fewer says nothing."""

    @property
    def columns_in_mean(self) -> list[int]:
        """Columns of the findings in the mean."""
        return [column for column, counts in enumerate(self.in_mean) if counts]


def common_findings(runs: Sequence[Predictions], *, min_positives: int) -> Findings:
    """Return the findings that all runs have, and which of them count in the mean: the same for every run."""
    first = runs[0]
    names = [name for name in first.findings if all(_has_output(run, name) for run in runs)]
    counts = [[_counts(run, name) for run in runs] for name in names]
    is_measured = [all(min(of_run[2:]) >= FEWEST_CASES for of_run in of_runs) for of_runs in counts]
    enough_images = [all(min(of_run[:2]) >= min_positives for of_run in of_runs) for of_runs in counts]
    return Findings(
        names=tuple(names),
        positives=tuple(of_runs[0][0] for of_runs in counts),
        negatives=tuple(of_runs[0][1] for of_runs in counts),
        in_mean=tuple(
            name != NO_FINDING and images and patients
            for name, images, patients in zip(names, enough_images, is_measured, strict=True)
        ),
        patients=tuple(of_runs[0][2] for of_runs in counts),
        is_measured=tuple(is_measured),
    )


def measures(run: Predictions, findings: Findings, *, draws: int) -> Measures:
    """Return the AUROCs of one run, with draws of its patients where they are asked for.

    Runs on the same images with the same labels are measured on the same draws.
    """
    columns = [run.findings.index(name) for name in findings.names]
    scores_NC, targets_NC, mask_NC = run.probs_nC[:, columns], run.targets_nC[:, columns], run.mask_nC[:, columns]
    metrics = measure(scores_NC, targets_NC, mask_NC, findings.names)
    patient_N = np.unique(np.asarray(run.patient_id_n, dtype=str), return_inverse=True)[1].astype(np.int64)
    drawn = None
    if draws:
        drawn = bootstrap(scores_NC, targets_NC, mask_NC, patient_N, BootstrapConfig(draws=draws)).auroc_DC
        drawn[:, [not there for there in findings.is_measured]] = np.nan
    return Measures(
        auroc_C=np.array([np.nan if entry.auroc is None else entry.auroc for entry in metrics.findings]),
        draws_DC=drawn,
        images=tuple(run.image_id_n),
    )


def _has_output(run: Predictions, name: str) -> bool:
    """Tell whether a run says anything of a finding; where its label space lacks it, it has no probability at all."""
    return name in run.findings and not np.isnan(run.probs_nC[:, run.findings.index(name)]).all()


def _counts(run: Predictions, name: str) -> tuple[int, int, int, int]:
    """Return positives and negatives of a finding, in images and in patients."""
    column = run.findings.index(name)
    labelled_N = run.mask_nC[:, column]
    positive_N = (run.targets_nC[:, column] > 0.5) & labelled_N
    negative_N = labelled_N & ~positive_N
    patient_N = np.asarray(run.patient_id_n, dtype=str)
    images = int(positive_N.sum()), int(negative_N.sum())
    return (*images, len(np.unique(patient_N[positive_N])), len(np.unique(patient_N[negative_N])))
