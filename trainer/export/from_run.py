"""The model of a run with its description."""

from pathlib import Path
from typing import Any

import torch

from manifests.errors import ConfigError
from pipeline.errors import PackError
from pipeline.pack import read_pack_json
from trainer.evaluation.operating import OperatingRule
from trainer.evaluation.predictions import read_predictions
from trainer.evaluation.scorecard import thresholds
from trainer.export.description import ModelDescription, Thresholds
from trainer.export.image_model import ImageModel
from trainer.preprocessing import Preprocessing
from trainer.report.record import RunRecord, read_record
from trainer.run_folder import RunFolder
from trainer.trained_model import TrainedModel, load_trained_model


def model_of_run(run: Path, *, checkpoint: str = "best", device: torch.device | str = "cpu") -> ImageModel:
    """Return the model that `cxr-train evaluate` measures, with its description.

    Args:
        run: the run's folder.
        checkpoint: `best`, `last`, or the path of a checkpoint of this run.
        device: where to put it.

    Raises:
        ConfigError: not a run, no such checkpoint, or nothing tells how its images were made.
    """
    model = load_trained_model(run, checkpoint=checkpoint, device=device)
    record = read_record(run)
    name = checkpoint if checkpoint in ("best", "last") else model.checkpoint.stem
    settings = model.config.model
    description = ModelDescription(
        model=settings.name,
        input_size_px=settings.input_size_px,
        channels_last=settings.channels_last,
        precision=model.config.step.precision,  # type: ignore[arg-type]  # a run's own has no auto
        label_space=model.space.name,
        findings=model.space.findings,
        preprocessing=preprocessing_of(record, model),
        run=record.name,
        checkpoint=name,
        step=model.step,
        is_teacher=model.is_teacher,
        identities=model.identities,
        thresholds=thresholds_of(run, evaluations_of(record, name, model.step)),
    )
    return ImageModel(module=model.module, description=description, device=model.device)


def preprocessing_of(record: RunRecord, model: TrainedModel) -> Preprocessing:
    """Return what the run's images went through: as it was recorded when it began or went on last, else by its pack.

    Raises:
        ConfigError: neither tells.
    """
    events = [event for event in record.of_kind("start") + record.of_kind("resume") if "preprocessing" in event]
    if events:
        return Preprocessing.from_values(events[-1]["preprocessing"], str(RunFolder(folder=record.folder).events_file))
    assert model.config.data.pack is not None, "settled when the run began"
    folder = Path(model.config.data.pack)
    try:
        pack = read_pack_json(folder)
    except PackError as error:
        raise ConfigError(
            f"{record.folder}: its history does not tell how its images were made, and its pack does not either "
            f"({error}); put the pack back"
        ) from error
    if pack.identity != model.pack_identity:
        raise ConfigError(
            f"{folder}: not the pack that {record.folder} was trained on: found identity {pack.identity[:12]}, "
            f"expected {model.pack_identity[:12]}; put that one back"
        )
    return Preprocessing.of_pack(pack)


def evaluations_of(record: RunRecord, checkpoint: str, step: int) -> list[dict[str, Any]]:
    """Return the entries of metrics.json that measured this very state of the model."""
    return [entry for entry in record.evaluations if (entry["checkpoint"], entry["step"]) == (checkpoint, step)]


def thresholds_of(run: Path, evaluations: list[dict[str, Any]]) -> Thresholds | None:
    """Return the thresholds that the last of the evaluations chose for the model's own outputs, if any did."""
    for entry in reversed(evaluations):
        operating = entry.get("operating")
        if operating is None or operating["predictions"] is None or entry.get("outputs") is not None:
            continue
        file = run / operating["predictions"]
        if not file.is_file():
            continue
        rule = OperatingRule(**operating["rule"])
        chosen = thresholds(read_predictions(file), rule)
        return Thresholds(
            rule=rule.name + ("" if rule.at_least is None else f" of at least {rule.at_least:g}"),
            num_images=operating["num_images"],
            values={finding: None if found is None else found.threshold for finding, found in chosen.items()},
        )
    return None
