"""A run's model on a split of a pack: predictions and an entry of metrics.json.

Letters of the shapes: n rows that are measured, C outputs of the label space.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from manifests.errors import ConfigError
from trainer.distributed import ALONE, Ranks
from trainer.evaluation import expert
from trainer.evaluation.evaluate_config import EvaluateConfig as EvaluateConfig
from trainer.evaluation.measured_images import MeasuredImages, is_own, measured_images
from trainer.evaluation.metrics_file import EvaluationEntry, OperatingChoice, add_evaluation
from trainer.evaluation.on_rows import infer_rows
from trainer.evaluation.operating import Chosen
from trainer.evaluation.predictions import Predictions, predictions_file
from trainer.evaluation.scorecard import scorecard, thresholds
from trainer.evaluation.validation_images import OnValidation, made_by, on_validation
from trainer.settle import device_of_rank
from trainer.trained_model import TrainedModel, load_trained_model


def evaluate(
    config: EvaluateConfig, on_step: Callable[[int, int], None] | None = None, *, ranks: Ranks = ALONE
) -> EvaluationEntry:
    """Evaluate, write predictions and metrics.json into the run's folder, return the entry of metrics.json.

    Thresholds of operating points are chosen on the run's validation images, whose predictions are made once for a
    checkpoint and kept beside the others.

    Args:
        config: what on what.
        on_step: called with (images done, images in all) after every batch.
        ranks: the processes that share the images; all of them call this, and rank 0 writes.

    Raises:
        UserError: whatever the user can repair; metrics.json is not written then.
    """
    with ranks.together():
        device = device_of_rank(config.device, ranks)
        model = load_trained_model(config.run, checkpoint=config.checkpoint, device=device)
        images = measured_images(config, model)
        loader = replace(
            model.config.loader,
            backend=config.loader or model.config.loader.backend,
            batch_size=config.batch_size or model.config.loader.batch_size,
        )
    sample_index_n, probs_nC = infer_rows(
        model, images.pack, images.sample_index_n, loader, on_step=on_step, ranks=ranks
    )
    validation = None
    if config.operating is not None:
        validation = on_validation(config, model, images, loader, on_step=on_step, ranks=ranks)
    warnings = [*images.warnings, *([loader.caution] if loader.caution else [])]
    return ranks.from_first(
        lambda: _written(
            config,
            model,
            images,
            images.predictions(model, sample_index_n, probs_nC),
            *_chosen(config, validation),
            warnings=warnings + _not_finite(model, probs_nC),
        )
    )


def _chosen(
    config: EvaluateConfig, validation: OnValidation | None
) -> tuple[dict[str, Chosen | None], OperatingChoice | None]:
    """Return the thresholds, and what metrics.json says of how they were chosen."""
    if config.operating is None or validation is None:
        return {}, None
    predictions = validation.predictions
    if predictions is None:
        return {}, OperatingChoice(rule=config.operating, predictions=None, num_images=0, why_not=validation.why_not)
    of_findings = predictions if config.expert is None else expert.combined(predictions)
    choice = OperatingChoice(
        rule=config.operating, predictions=validation.file, num_images=len(predictions.sample_index_n)
    )
    return thresholds(of_findings, config.operating), choice


def _written(
    config: EvaluateConfig,
    model: TrainedModel,
    images: MeasuredImages,
    predictions: Predictions,
    chosen: dict[str, Chosen | None],
    operating: OperatingChoice | None,
    *,
    warnings: list[str],
) -> EvaluationEntry:
    """Measure, write predictions and metrics.json, return its entry."""
    pack = images.pack
    checkpoint = config.checkpoint_name(model.checkpoint)
    other_pack = None if is_own(pack, model) else pack.folder.resolve().name
    file = predictions_file(
        dataset=pack.dataset, pack=other_pack, split=config.split, labels=images.labels, checkpoint=checkpoint
    )
    entry = EvaluationEntry(
        dataset=pack.dataset,
        pack=other_pack,
        split=config.split,
        labels=images.labels,
        checkpoint=checkpoint,
        step=model.step,
        num_images=len(predictions.sample_index_n),
        left_out=images.left_out,
        predictions=file,
        metrics=scorecard(predictions, config.bootstrap, min_positives=config.min_positives, chosen=chosen),
        bootstrap=config.bootstrap if config.bootstrap.draws else None,
        operating=operating,
        outputs=None if config.expert is None else expert.outputs_there(model.space.findings),
        warnings=warnings,
    )
    try:
        predictions.write(config.run / file, made_by(model, pack, images.selection))
        add_evaluation(config.run, entry)
    except OSError as error:
        raise ConfigError(f"{config.run}: cannot be written ({error})") from error
    return entry


def _not_finite(model: TrainedModel, probs_nC: np.ndarray) -> list[str]:
    finite_C = np.isfinite(probs_nC).all(axis=0)
    names = [name for name, finite in zip(model.space.findings, finite_C, strict=False) if not finite]
    return [f"{name}: a probability is not finite" for name in names]
