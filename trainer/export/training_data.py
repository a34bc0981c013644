"""What a model was trained on, for its card: datasets with their terms, labels and their origin, counts.

Shapes: n training rows, C outputs.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from manifests.dataset import Dataset
from manifests.datasets import dataset
from manifests.errors import ConfigError, UserError
from trainer.config import TrainConfig
from trainer.data import TrainingData, open_training_data
from trainer.export.description import ModelDescription


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """The training selection of a run."""

    datasets: dict[str, int]
    """Dataset -> training images."""

    num_train: int
    """n."""

    num_valid: int
    """Images that the best epoch was chosen on."""

    positives: tuple[int, ...]
    """Training images that are labelled with each output, in order."""

    labelled: tuple[int, ...]
    """Training images that have a label of it at all."""

    labels: str | None
    """Manifest that the labels are from instead of the pack's; None: the pack's."""

    noise: str | None
    """How labels were made noisy on purpose (`cxr-prep inject-noise`); None: they were not."""


def trained_on(config: TrainConfig, description: ModelDescription) -> TrainedOn | str:
    """Return the training selection of a run; a string says why it is not known."""
    assert config.data.pack is not None, "settled when the run began"
    try:
        data = open_training_data(
            Path(config.data.pack),
            space_name=description.label_space,
            prior_form=config.loss.prior_form,
            labels=None if config.data.labels is None else Path(config.data.labels),
        )
    except UserError as error:
        return f"the pack or its labels could not be read when this card was written ({str(error).splitlines()[0]})"
    found = data.identities(model=description.model, input_size_px=description.input_size_px)
    if found.selection != description.identities["selection"]:
        return "the pack or its labels are others now than when the run began"
    return _counted(data)


def _counted(data: TrainingData) -> TrainedOn:
    rows_n = data.train.sample_index_n
    manifest = data.pack.manifest()
    names = manifest.column("dataset").take(rows_n).to_pylist()
    mask_nC = data.train.mask_NC[rows_n]
    positive_nC = (data.train.targets_NC[rows_n] > 0.5) & mask_nC
    noise = manifest.metadata.get("noise") if data.labels is None else None
    return TrainedOn(
        datasets=dict(Counter(names).most_common()),
        num_train=len(rows_n),
        num_valid=data.valid.num_selected,
        positives=tuple(np.asarray(positive_nC.sum(axis=0)).tolist()),
        labelled=tuple(np.asarray(mask_nC.sum(axis=0)).tolist()),
        labels=None if data.labels is None else data.labels.name,
        noise=None if noise is None else json.dumps(noise),
    )


def known_dataset(name: str) -> Dataset | None:
    """Return what is known of a dataset; None where its name is no public release's."""
    try:
        return dataset(name)
    except ConfigError:
        return None
