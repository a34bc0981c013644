"""What a run trains and validates on: a pack, a label space, two selections, the prior.

Shapes: N rows of the pack, n rows of a selection, C outputs.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manifests.errors import ConfigError, ManifestError
from manifests.label_spaces import LabelSpace, PriorForm, label_space
from manifests.selection import Selection, class_prior, select
from manifests.table import ManifestTable, read_manifest
from manifests.workspace import Workspace
from pipeline.loaders import backend_named
from pipeline.order import ORDER_VERSION
from pipeline.pack import Pack, only_pack, open_pack
from trainer.checkpoint import Identities
from trainer.config import DataConfig
from trainer.relabel import refuse_other_splits, relabelled


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """A pack seen through a label space."""

    pack: Pack
    """Where the pixels and the labels lie."""

    space: LabelSpace
    """Outputs and rows that are left out."""

    train: Selection
    """Rows of the split train; never empty."""

    valid: Selection
    """Rows of the split valid; may be empty. The split test is never looked at here."""

    labels: Path | None
    """Manifest that the targets of both are from; None: the pack's own."""

    prior_C: npt.NDArray[np.float64]
    """Class prior of the training rows."""

    def identities(self, *, model: str, input_size_px: int) -> Identities:
        """Return what a checkpoint of a run on these data belongs to."""
        return Identities(
            model=model,
            input_size_px=input_size_px,
            pack=self.pack.identity,
            label_space=self.space.name,
            findings=self.space.findings,
            selection=self._selection_hash(),
            prior=tuple(self.prior_C.tolist()),
            order_version=ORDER_VERSION,
        )

    def _selection_hash(self) -> str:
        """Return the hash of what is trained on; with labels from elsewhere, also of what is validated on.

        The pack's own labels cannot change without the pack; a file of others can.
        """
        trained = selection_hash(self.train)
        if self.labels is None:
            return trained
        return hashlib.sha256((trained + selection_hash(self.valid)).encode()).hexdigest()


def find_pack(config: DataConfig, *, backend: str, workspace: Workspace) -> Path:
    """Return the folder of the pack: the one that is named, else the only one that the loader reads.

    Raises:
        ConfigError, MissingBackendError: no such loader.
        PackError: there is none, or there are several.
    """
    formats = backend_named(backend).formats
    return Path(config.pack) if config.pack is not None else only_pack(workspace, formats)


def open_training_data(
    folder: Path, *, space_name: str, prior_form: PriorForm, labels: Path | None = None
) -> TrainingData:
    """Return the selections of the pack in `folder`.

    Args:
        folder: the pack's.
        space_name: label space, which with the labels decides the rows that are left out.
        prior_form: how the prior is counted.
        labels: manifest whose labels count instead of the pack's, joined by (dataset, image_id); an image that it does
            not have is not labelled, and so in no selection.

    Raises:
        ConfigError: no such label space, one that the pack has no labels for, or no training row.
        ManifestError: `labels` is no manifest, has no image of the pack, or has one in another split.
        PackError: the pack cannot be used.
    """
    pack = open_pack(folder)
    space = label_space(space_name)
    manifest = pack.manifest()
    if labels is not None:
        manifest = _relabelled(manifest, labels)
    train = select(manifest, space, "train", pack.rejected)
    if train.num_selected == 0:
        left_out = "".join(f", {count:,} left out: {reason}" for reason, count in train.left_out.items())
        raise ConfigError(
            f"{folder}: no row of the split train is in the label space {space.name}{left_out}; "
            "pack a manifest that has training rows, or choose another --label-space"
        )
    labelled_C = np.asarray(train.mask_NC[train.sample_index_n].any(axis=0))
    missing = [space.findings[column] for column in np.flatnonzero(~labelled_C)]
    if missing:
        raise ConfigError(
            f"{folder}: no training row is labelled for {', '.join(missing)}, outputs of the label space {space.name}; "
            f"choose a --label-space of what {pack.dataset} labels"
        )
    return TrainingData(
        pack=pack,
        space=space,
        train=train,
        valid=select(manifest, space, "valid", pack.rejected),
        labels=labels,
        prior_C=class_prior(train, prior_form),
    )


def _relabelled(manifest: ManifestTable, labels: Path) -> ManifestTable:
    """Return the pack's rows with the labels of another manifest, whose splits must be the pack's."""
    others = read_manifest(labels)
    try:
        relabelled_manifest = relabelled(manifest, others)
        refuse_other_splits(manifest, others)
    except ManifestError as error:
        raise ManifestError(f"data.labels={labels}: {error}") from error
    return relabelled_manifest


def selection_hash(selection: Selection) -> str:
    """Return the sha256 over a selection's rows, targets and masks: another label policy is another selection."""
    index_n = selection.sample_index_n
    digest = hashlib.sha256(index_n.astype("<i8").tobytes())
    digest.update(selection.targets_NC[index_n].astype("<f4").tobytes())
    digest.update(selection.mask_NC[index_n].astype(np.uint8).tobytes())
    return digest.hexdigest()
