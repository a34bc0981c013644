"""Predictions on the images that a run was validated on: they choose thresholds, which a test set never does."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import ConfigError, UserError
from manifests.selection import Selection
from pipeline.errors import PackError
from pipeline.loaders import LoaderConfig
from pipeline.pack import Pack
from trainer.data import TrainingData, open_training_data, selection_hash
from trainer.distributed import ALONE, Ranks
from trainer.evaluation.evaluate_config import PACK_LABELS, EvaluateConfig
from trainer.evaluation.measured_images import MeasuredImages, selected_predictions
from trainer.evaluation.on_rows import infer_rows
from trainer.evaluation.predictions import Predictions, predictions_file, predictions_made_by, read_predictions
from trainer.trained_model import TrainedModel

VALIDATION = "valid"


@dataclass(frozen=True, kw_only=True)
class OnValidation:
    """What was predicted on validation, or why nothing was."""

    file: str | None
    """Name of the file of predictions in the run's folder; None: there are none."""

    predictions: Predictions | None
    """The predictions; on rank 0 only."""

    why_not: str | None = None
    """What kept them from being made; None: nothing."""


def on_validation(
    config: EvaluateConfig,
    model: TrainedModel,
    images: MeasuredImages,
    loader_config: LoaderConfig,
    *,
    on_step: Callable[[int, int], None] | None = None,
    ranks: Ranks = ALONE,
) -> OnValidation:
    """Return predictions on the run's validation images: from the run's folder, or made now and written there.

    Args:
        config: the evaluation that asks for them.
        model: the run's model.
        images: what is evaluated; the validation images themselves get no thresholds.
        loader_config: how images are read.
        on_step: called with (images done, images in all) after every batch.
        ranks: the processes that share the images; all of them call this.

    Raises:
        UserError: the file cannot be written.
    """
    with ranks.together():
        data, own_why_not = _data_of_run(model)
        if data is not None and config.split == VALIDATION and images.pack.identity == data.pack.identity:
            own_why_not = "thresholds are chosen on these very images"
        elif data is not None and not data.valid.num_selected:
            own_why_not = "the run has no validation images"
    why_not = ranks.from_first(lambda: own_why_not)  # the ranks go the same way, also where one has no such folder
    if why_not is not None:
        return OnValidation(file=None, predictions=None, why_not=why_not)
    with ranks.together():
        if data is None:
            raise PackError(f"{own_why_not}; every process reads them to choose thresholds")
    file = predictions_file(
        dataset=data.pack.dataset,
        pack=None,
        split=VALIDATION,
        labels=PACK_LABELS if data.labels is None else data.labels.stem,
        checkpoint=config.checkpoint_name(model.checkpoint),
    )
    path = config.run / file
    if not ranks.from_first(lambda: predictions_made_by(path) == made_by(model, data.pack, data.valid)):
        _predict(model, data.pack, data.valid, loader_config, path, on_step=on_step, ranks=ranks)
    return OnValidation(file=file, predictions=read_predictions(path) if ranks.is_first else None)


def made_by(model: TrainedModel, pack: Pack, selection: Selection | None) -> dict[str, str]:
    """Return what tells predictions of a run from those of another checkpoint, pack or labels.

    Args:
        model: the run's model.
        pack: where the images are.
        selection: which of them, and their labels; None: not those of a manifest.
    """
    labels = "" if selection is None else selection_hash(selection)
    return {"step": str(model.step), "pack": pack.identity, "label_space": model.space.name, "labels": labels}


def _data_of_run(model: TrainedModel) -> tuple[TrainingData | None, str | None]:
    """Return what the run was trained and validated on, or None and why not."""
    config = model.config.data
    try:
        data = open_training_data(
            Path(config.pack or ""),
            space_name=model.space.name,
            prior_form=model.config.loss.prior_form,
            labels=None if config.labels is None else Path(config.labels),
        )
    except UserError as error:
        return None, f"the images that the run was validated on are not there ({error})"
    if data.pack.identity != model.pack_identity:
        return None, f"{config.pack} has other images than those that the run was validated on"
    return data, None


def _predict(
    model: TrainedModel,
    pack: Pack,
    selection: Selection,
    loader_config: LoaderConfig,
    path: Path,
    *,
    on_step: Callable[[int, int], None] | None,
    ranks: Ranks,
) -> None:
    sample_index_n, probs_nC = infer_rows(
        model, pack, selection.sample_index_n, loader_config, on_step=on_step, ranks=ranks
    )
    with ranks.together():
        if ranks.is_first:
            predictions = selected_predictions(pack.manifest(), selection, sample_index_n, probs_nC)
            try:
                predictions.write(path, made_by(model, pack, selection))
            except OSError as error:
                raise ConfigError(f"{path}: cannot be written ({error})") from error
