"""Memorisation: how many wrong labels a run has learned by heart, told by clean labels that it never trains on.

At each epoch's end the model is asked about a fixed sample of training images, in evaluation mode and without
augmentation. A finding is *called present* for as many images of the sample as are labelled so, those with the highest
probabilities: no threshold is chosen, and a loss that shifts all probabilities changes nothing. A label is *fitted*
where what is called is what is labelled. So of wrong labels none is fitted by a model that knows the truth (and labels
as many as there are), and all of them are by one that knows its labels by heart; of labels "present" at random, a share
as large as their frequency.

Nothing here chooses anything: neither epochs nor settings. Shapes in names: m sampled rows, C outputs.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from manifests.errors import ManifestError
from manifests.findings import NO_FINDING
from manifests.fraction import seeded
from manifests.noise_model import known_and_present
from manifests.selection import Selection
from manifests.table import BoolArray, labels_NC, read_manifest
from trainer.config import LabConfig
from trainer.data import TrainingData
from trainer.evaluation.metrics import SplitMetrics, measure
from trainer.relabel import relabelled
from trainer.remembered import Memory, remembered_probs


class Answers(NamedTuple):
    """What a model says of sampled images."""

    sample_index_m: npt.NDArray[np.int64]
    """Their rows, ascending."""

    probs_mC: npt.NDArray[np.float32]
    """Probabilities."""


@dataclass(frozen=True, kw_only=True)
class CleanSample:
    """Training images whose truth is known."""

    selection: Selection
    """The sampled rows, with the labels that are trained on."""

    clean_mC: BoolArray
    """What is there."""

    known_mC: BoolArray
    """Where that is known, and there is a label too."""

    @property
    def labelled_mC(self) -> BoolArray:
        """Return which labels say "present"."""
        return np.asarray(self.selection.targets_NC[self.selection.sample_index_n] > 0.5) & self.known_mC


def clean_sample(data: TrainingData, config: LabConfig) -> CleanSample | None:
    """Return the images that memorisation is measured on; None where no clean labels are named.

    The same images of a pack for every run, whatever its seed: those with the smallest hashes of their row.

    Raises:
        ManifestError: the clean labels cannot be read, or are of none of the images.
    """
    if config.clean_labels is None:
        return None
    path = Path(config.clean_labels)
    try:
        clean = relabelled(data.pack.manifest(), read_manifest(path))
    except ManifestError as error:
        raise ManifestError(f"lab.clean_labels={path}: {error}", error.problems) from error
    rows_n = data.train.sample_index_n
    chosen_m = np.sort(np.argsort(seeded(rows_n.astype(np.uint64), 0), kind="stable")[: config.num_images])
    selection = replace(data.train, sample_index_n=rows_n[chosen_m])
    values_NC, labelled_NC = labels_NC(clean, data.space.findings)
    known_mC, clean_mC = known_and_present(values_NC[rows_n[chosen_m]], labelled_NC[rows_n[chosen_m]])
    known_mC &= data.train.mask_NC[rows_n[chosen_m]]
    if not known_mC.any():
        raise ManifestError(f"lab.clean_labels={path}: no training image has a label there for any output of the run")
    return CleanSample(selection=selection, clean_mC=clean_mC & known_mC, known_mC=known_mC)


def called_present(probs_mC: npt.NDArray[np.floating], labelled_mC: BoolArray, known_mC: BoolArray) -> BoolArray:
    """Return for which images each finding is called present: as many as are labelled so, the most likely ones.

    Of equal probabilities the first come first.
    """
    order_mC = np.argsort(np.where(known_mC, -probs_mC, np.inf), axis=0, kind="stable")
    is_called_mC = np.arange(len(probs_mC))[:, None] < labelled_mC.sum(axis=0)
    called_mC = np.zeros_like(labelled_mC)
    np.put_along_axis(called_mC, order_mC, is_called_mC, axis=0)
    return called_mC


def memorisation(sample: CleanSample, answers: Answers, memory: Memory | None) -> dict[str, object]:
    """Return the fields of a `memorisation` event (`trainer.events`) but for epoch and step.

    Args:
        sample: labels and truth.
        answers: what the evaluated model says of the sampled rows; those that could not be read are missing.
        memory: rows of the whole pack; None: there is no memory.
    """
    findings = sample.selection.space.findings
    place_m = np.searchsorted(sample.selection.sample_index_n, answers.sample_index_m)
    probs_mC = np.full(sample.clean_mC.shape, np.nan)
    probs_mC[place_m] = answers.probs_mC
    counts_C = np.array([name != NO_FINDING for name in findings])  # as in all means
    asked_mC = sample.known_mC & ~np.isnan(probs_mC)
    labelled_mC, known_mC = sample.labelled_mC & asked_mC, asked_mC & counts_C
    is_fitted_mC = called_present(probs_mC, labelled_mC, asked_mC) == labelled_mC
    is_wrong_mC = known_mC & (labelled_mC != sample.clean_mC)
    fields: dict[str, object] = {"num_images": len(answers.sample_index_m)}
    for name, entries_mC in (
        ("wrong", is_wrong_mC),
        ("wrong_present", is_wrong_mC & labelled_mC),
        ("wrong_absent", is_wrong_mC & ~labelled_mC),
        ("right", known_mC & ~is_wrong_mC),
        ("right_present", known_mC & ~is_wrong_mC & labelled_mC),
    ):
        num_entries = int(entries_mC.sum())
        fields[f"num_{name}"] = num_entries
        fields[f"{name}_fitted"] = int(is_fitted_mC[entries_mC].sum()) / num_entries if num_entries else None
    model = against_clean(sample, probs_mC)
    fields["model_mean_auroc"] = model.mean_auroc
    fields["memory_mean_auroc"] = fields["memory_auroc"] = None
    if memory is not None:
        remembered_mC = remembered_probs(memory).numpy()[sample.selection.sample_index_n]
        remembered = against_clean(sample, remembered_mC)
        fields["memory_mean_auroc"] = remembered.mean_auroc
        fields["memory_auroc"] = {row.finding: row.auroc for row in remembered.findings}
    return fields


def against_clean(sample: CleanSample, probs_mC: npt.NDArray[np.floating]) -> SplitMetrics:
    """Return AUROC of probabilities of the sampled rows against the truth; rows without a probability do not count."""
    mask_mC = sample.known_mC & ~np.isnan(probs_mC)
    scores_mC = np.where(mask_mC, probs_mC, 0)
    return measure(scores_mC, sample.clean_mC.astype(np.float64), mask_mC, sample.selection.space.findings)
