"""A run's model on a split of a pack: predictions and an entry of metrics.json.

Letters of the shapes: N rows of the pack, n rows of the selection, C outputs of the label space.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from manifests.errors import ConfigError, ManifestError
from manifests.selection import Selection, select
from manifests.table import ManifestTable, read_manifest
from pipeline.errors import PackError
from pipeline.loaders import open_loader
from pipeline.pack import Pack, open_pack
from trainer.distributed import ALONE, Ranks
from trainer.evaluation.bootstrap import BootstrapConfig
from trainer.evaluation.intervals import with_intervals
from trainer.evaluation.metrics import ENOUGH_POSITIVES, measure
from trainer.evaluation.metrics_file import EvaluationEntry, add_evaluation
from trainer.evaluation.predictions import Predictions, predictions_file
from trainer.inference import infer
from trainer.relabel import relabelled
from trainer.settle import device_of_rank
from trainer.trained_model import TrainedModel, load_trained_model

PACK_LABELS = "pack"
"""Name, in metrics.json, of the labels that are in the pack's own manifest."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is evaluated on what."""

    run: Path
    """Folder of the run."""

    pack: Path | None = None
    """Folder of the pack; None: the one that the run was trained on."""

    split: str = "test"
    """train, valid or test, as in the pack's manifest."""

    labels: Path | None = None
    """Manifest whose labels count instead of the pack's; None: the pack's."""

    checkpoint: str = "best"
    """`best` on validation, `last`, or the path of a checkpoint of the run."""

    loader: str | None = None
    """Backend that reads the pack; None: the run's."""

    batch_size: int | None = None
    """Images a step; None: the run's."""

    device: str = "auto"
    """`auto` (the GPU where there is one), `cpu`, `cuda` or `cuda:N`."""

    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    """How intervals are drawn."""

    min_positives: int = ENOUGH_POSITIVES
    """Fewest positives of a finding in the mean over findings with enough of them."""


def evaluate(
    config: EvaluateConfig, on_step: Callable[[int, int], None] | None = None, *, ranks: Ranks = ALONE
) -> EvaluationEntry:
    """Evaluate, write predictions and metrics.json into the run's folder, return the entry of metrics.json.

    Args:
        config: what on what.
        on_step: called with (images done, images in all) after every batch.
        ranks: the processes that share the images; all of them call this, and rank 0 writes.

    Raises:
        UserError: whatever the user can repair; nothing is written then.
    """
    with ExitStack() as stack:
        with ranks.together():
            device = device_of_rank(config.device, ranks)
            model = load_trained_model(config.run, checkpoint=config.checkpoint, device=device)
            pack = open_pack(_pack_folder(config, model))
            warnings = _pack_warnings(config, model, pack)
            selection = _selection(config, model, pack)
            loader_config = replace(
                model.config.loader,
                backend=config.loader or model.config.loader.backend,
                batch_size=config.batch_size or model.config.loader.batch_size,
            )
            warnings += [loader_config.caution] if loader_config.caution else []
            loader = stack.enter_context(
                open_loader(
                    loader_config,
                    pack=pack,
                    sample_index_n=selection.sample_index_n,
                    seed=0,
                    device=device,
                    rank=ranks.rank,
                    world_size=ranks.world_size,
                )
            )
        num_images = selection.num_selected
        sample_index_n, probs_nC = infer(
            model.module,
            loader,
            model.prepare,
            autocast=model.autocast,
            on_step=None if on_step is None else lambda done: on_step(done, num_images),
            ranks=ranks,
        )
    return ranks.from_first(
        lambda: _written(config, model, pack, selection, sample_index_n, probs_nC, warnings=warnings)
    )


def _written(
    config: EvaluateConfig,
    model: TrainedModel,
    pack: Pack,
    selection: Selection,
    sample_index_n: np.ndarray,
    probs_nC: np.ndarray,
    *,
    warnings: list[str],
) -> EvaluationEntry:
    """Measure, write predictions and metrics.json, return its entry."""
    predictions = _predictions(pack.manifest(), selection, sample_index_n, probs_nC)
    metrics = measure(predictions.probs_nC, predictions.targets_nC, predictions.mask_nC, model.space.findings)
    metrics = with_intervals(
        metrics, predictions.probs_nC, predictions.targets_nC, predictions.mask_nC, predictions.patient_id_n,
        config.bootstrap, min_positives=config.min_positives,
    )  # fmt: skip
    warnings += [f"{name}: a probability is not finite" for name in _not_finite(predictions)]
    labels = PACK_LABELS if config.labels is None else config.labels.stem
    checkpoint = config.checkpoint if config.checkpoint in ("best", "last") else model.checkpoint.stem
    other_pack = None if _is_own(pack, model) else pack.folder.resolve().name
    file = predictions_file(
        dataset=pack.dataset, pack=other_pack, split=config.split, labels=labels, checkpoint=checkpoint
    )
    entry = EvaluationEntry(
        dataset=pack.dataset,
        pack=other_pack,
        split=config.split,
        labels=labels,
        checkpoint=checkpoint,
        step=model.step,
        num_images=len(sample_index_n),
        left_out=selection.left_out,
        predictions=file,
        metrics=metrics,
        bootstrap=config.bootstrap if config.bootstrap.draws else None,
        warnings=warnings,
    )
    try:
        predictions.write(config.run / file)
        add_evaluation(config.run, entry)
    except OSError as error:
        raise ConfigError(f"{config.run}: cannot be written ({error})") from error
    return entry


def _pack_folder(config: EvaluateConfig, model: TrainedModel) -> Path:
    if config.pack is not None:
        return config.pack
    if model.config.data.pack is None or not Path(model.config.data.pack).is_dir():
        raise PackError(
            f"{model.config.data.pack}: the pack that {config.run} was trained on is gone; name one with --pack"
        )
    return Path(model.config.data.pack)


def _is_own(pack: Pack, model: TrainedModel) -> bool:
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


def _predictions(
    manifest: ManifestTable, selection: Selection, sample_index_n: np.ndarray, probs_nC: np.ndarray
) -> Predictions:
    rows = manifest.table.select(["image_id", "patient_id"]).take(sample_index_n)
    return Predictions(
        findings=selection.space.findings,
        sample_index_n=sample_index_n,
        image_id_n=rows["image_id"].to_pylist(),
        patient_id_n=rows["patient_id"].to_pylist(),
        probs_nC=probs_nC,
        targets_nC=selection.targets_NC[sample_index_n],
        mask_nC=selection.mask_NC[sample_index_n],
    )


def _not_finite(predictions: Predictions) -> list[str]:
    finite_nC = np.isfinite(predictions.probs_nC)
    return [name for column, name in enumerate(predictions.findings) if not finite_nC[:, column].all()]
