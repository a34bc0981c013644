"""The images that an evaluation measures: which pack, which rows, whose labels, and what makes them doubtful.

Letters of the shapes: N rows of the pack, n rows that are measured, C outputs of the label space.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manifests.errors import ConfigError, ManifestError
from manifests.selection import Selection, select
from manifests.table import ManifestTable, read_manifest
from pipeline.errors import PackError
from pipeline.pack import Pack, open_pack
from trainer.evaluation import expert
from trainer.evaluation.evaluate_config import PACK_LABELS, EvaluateConfig
from trainer.evaluation.predictions import Predictions
from trainer.relabel import relabelled
from trainer.trained_model import TrainedModel


@dataclass(frozen=True, kw_only=True)
class MeasuredImages:
    """Rows of a pack, and the labels that they are measured against."""

    pack: Pack
    """Where their pixels are."""

    labels: str
    """Name of the labels in metrics.json."""

    sample_index_n: NDArray[np.int64]
    """The rows, ascending."""

    left_out: dict[str, int]
    """Reason -> images of the split that are not measured."""

    selection: Selection | None
    """Labels of the outputs; None: those of the experts count."""

    expert_targets_NE: NDArray[np.float32] | None
    """The experts' labels; None: those of the selection count."""

    warnings: list[str]
    """What makes numbers on these images doubtful."""

    def predictions(self, model: TrainedModel, sample_index_n: NDArray[np.int64], probs_nC: np.ndarray) -> Predictions:
        """Return what the model says of the rows beside their labels."""
        if self.selection is not None:
            return selected_predictions(self.pack.manifest(), self.selection, sample_index_n, probs_nC)
        assert self.expert_targets_NE is not None
        nothing_nC = np.zeros(probs_nC.shape, np.float32)
        of_outputs = predictions_of(
            self.pack.manifest(), model.space.findings, sample_index_n, probs_nC, nothing_nC, nothing_nC > 0
        )
        return expert.with_answers(expert.combined(of_outputs), self.expert_targets_NE[sample_index_n])


def measured_images(config: EvaluateConfig, model: TrainedModel) -> MeasuredImages:
    """Return the images that the configuration names.

    Raises:
        UserError: no such pack, none of its rows belongs to the split, or labels that cannot be used.
    """
    pack = open_pack(_pack_folder(config, model))
    warnings = _pack_warnings(config, model, pack)
    if config.expert is not None:
        return _expert_images(config, config.expert, pack, warnings)
    selection = _selection(config, model, pack)
    return MeasuredImages(
        pack=pack,
        labels=PACK_LABELS if config.labels is None else config.labels.stem,
        sample_index_n=selection.sample_index_n,
        left_out=selection.left_out,
        selection=selection,
        expert_targets_NE=None,
        warnings=warnings,
    )


def _expert_images(config: EvaluateConfig, file: Path, pack: Pack, warnings: list[str]) -> MeasuredImages:
    answers, sets = expert.read_expert_findings(file)
    table = pack.manifest()
    sample_index_n, targets_NE, left_out = expert.expert_rows(table, config.split, pack.rejected, answers)
    if not len(sample_index_n):
        raise ConfigError(
            f"--expert {file}: none of its {len(answers):,} images is in the split {config.split} of {pack.folder}; "
            f"expected a pack of ChestX-ray14 (dataset {expert.DATASET}) and the split test"
        )
    images = table.table.column("image_id").take(sample_index_n).to_pylist()
    return MeasuredImages(
        pack=pack,
        labels=expert.LABELS,
        sample_index_n=sample_index_n,
        left_out=left_out,
        selection=None,
        expert_targets_NE=targets_NE,
        warnings=[*warnings, *expert.expert_warnings(sets, images, config.split)],
    )


def selected_predictions(
    manifest: ManifestTable, selection: Selection, sample_index_n: NDArray[np.int64], probs_nC: np.ndarray
) -> Predictions:
    """Return the probabilities of rows beside the labels of a selection."""
    return predictions_of(
        manifest,
        selection.space.findings,
        sample_index_n,
        probs_nC,
        selection.targets_NC[sample_index_n],
        selection.mask_NC[sample_index_n],
    )


def predictions_of(
    manifest: ManifestTable,
    findings: tuple[str, ...],
    sample_index_n: NDArray[np.int64],
    probs_nC: np.ndarray,
    targets_nC: np.ndarray,
    mask_nC: np.ndarray,
) -> Predictions:
    """Return predictions with the names and patients of their rows."""
    rows = manifest.table.select(["image_id", "patient_id"]).take(sample_index_n)
    return Predictions(
        findings=findings,
        sample_index_n=sample_index_n,
        image_id_n=rows["image_id"].to_pylist(),
        patient_id_n=rows["patient_id"].to_pylist(),
        probs_nC=probs_nC,
        targets_nC=targets_nC,
        mask_nC=mask_nC,
    )


def _pack_folder(config: EvaluateConfig, model: TrainedModel) -> Path:
    if config.pack is not None:
        return config.pack
    if model.config.data.pack is None or not Path(model.config.data.pack).is_dir():
        raise PackError(
            f"{model.config.data.pack}: the pack that {config.run} was trained on is gone; name one with --pack"
        )
    return Path(model.config.data.pack)


def is_own(pack: Pack, model: TrainedModel) -> bool:
    """Tell whether `pack` is the folder that the run was trained on."""
    own = model.config.data.pack
    return own is not None and pack.folder.resolve() == Path(own).resolve()


def _pack_warnings(config: EvaluateConfig, model: TrainedModel, pack: Pack) -> list[str]:
    """Return what makes numbers on this pack doubtful; refuse a pack that took the place of the run's.

    Raises:
        PackError: the folder that the run was trained on now holds other images.
    """
    warnings = []
    if pack.identity != model.pack_identity:
        if config.pack is None:
            raise PackError(
                f"{pack.folder}: not the images that {config.run} was trained on: found identity "
                f"{pack.identity[:12]}, expected {model.pack_identity[:12]}; name the pack that you mean with --pack"
            )
        shared = [name for name in pack.manifest().datasets if name in _trained_datasets(model)]
        if config.split != "train" and shared:
            warnings.append(
                f"this pack and the run's both hold images of {' and '.join(shared)}, but not the same ones: if their "
                "splits differ, the model may have been trained on patients that it is measured on"
            )
    input_size_px = model.config.model.input_size_px
    if min(pack.height_px, pack.width_px) < input_size_px:
        warnings.append(
            f"the images of the pack have {pack.spec.size} px and are enlarged to {input_size_px} px, "
            "which the model sees"
        )
    return warnings


def _trained_datasets(model: TrainedModel) -> set[str]:
    """Return the datasets of the run's own pack; empty where the pack is gone."""
    try:
        own = open_pack(Path(model.config.data.pack or ""))
    except PackError:
        return set()
    return set(own.manifest().datasets)


def _selection(config: EvaluateConfig, model: TrainedModel, pack: Pack) -> Selection:
    """Return the rows of the split in the run's label space, with the labels that were asked for."""
    manifest = pack.manifest()
    if config.labels is not None:
        try:
            manifest = relabelled(manifest, read_manifest(config.labels))
        except ManifestError as error:
            raise ManifestError(f"--labels {config.labels}: {error}", error.problems) from error
    selection = select(manifest, model.space, config.split, pack.rejected)
    if selection.num_selected == 0:
        left_out = "".join(f", {count:,} left out: {reason}" for reason, count in selection.left_out.items())
        raise ConfigError(
            f"{pack.folder}: no image of the split {config.split} is in the label space {model.space.name}{left_out}; "
            "choose another --split or --labels"
        )
    return selection
