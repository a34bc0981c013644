"""A model as a run left it, ready to be evaluated."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from manifests.errors import ConfigError
from manifests.label_spaces import LabelSpace, label_space
from pipeline.prepare import prepare_images
from trainer.checkpoint import read_checkpoint
from trainer.config import TrainConfig
from trainer.models.registry import build_model
from trainer.precision import autocast, resolve_precision
from trainer.resume import differing_settings
from trainer.run_folder import RunFolder
from trainer.sections import build


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """The module that a checkpoint holds for evaluation, with what it was trained for."""

    module: nn.Module
    """The teacher where there was one, else the student; in evaluation mode on `device`."""

    config: TrainConfig
    """The run's resolved configuration."""

    space: LabelSpace
    """Its outputs."""

    checkpoint: Path
    """Where it was read from."""

    step: int
    """Optimiser steps behind it."""

    identities: Mapping[str, Any]
    """What the checkpoint is bound to, as `trainer.checkpoint.Identities`."""

    is_teacher: bool
    """Whether the module is the EMA teacher."""

    device: torch.device
    """Where the module lies."""

    @property
    def pack_identity(self) -> str:
        """Identity of the pack that it was trained on."""
        return str(self.identities["pack"])

    def prepare(self, images_B1HW: torch.Tensor) -> torch.Tensor:
        """Return what the module sees of a loader's images, without augmentation: float [B, 1, h, w]."""
        return prepare_images(images_B1HW, None, self.config.model.input_size_px)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context that the module runs in: the run's precision, where this device has it."""
        return autocast(resolve_precision(self.config.step.precision, self.device), self.device)


def load_trained_model(run: Path, *, checkpoint: str = "best", device: torch.device | str = "cpu") -> TrainedModel:
    """Return the model of a run.

    Args:
        run: the run's folder.
        checkpoint: `best` (on validation), `last`, or the path of a checkpoint of this run.
        device: where to put it.

    Raises:
        ConfigError: not a run, no such checkpoint yet, a file that is none, or one of another model or label space.
    """
    folder = RunFolder(folder=run)
    begun = folder.read_config()
    path = _checkpoint_path(folder, checkpoint)
    content = read_checkpoint(path)
    config = build(TrainConfig, content["config"], source=str(path))
    _refuse_other_run(begun, config, path, run)
    identities: dict[str, Any] = content["identities"]
    space = label_space(identities["label_space"])
    if list(space.findings) != identities["findings"]:
        raise ConfigError(
            f"{path}: trained for another label space {space.name}: found {', '.join(identities['findings'])}, "
            f"expected {', '.join(space.findings)}; evaluate with the version of cxr-nvum that trained it"
        )
    device = torch.device(device)
    module = build_model(
        config.model.name,
        len(space.findings),
        input_size_px=config.model.input_size_px,
        channels_last=config.model.channels_last,
    )
    try:
        module.load_state_dict(content["teacher"] or content["student"])
    except RuntimeError as error:
        raise ConfigError(f"{path}: its weights are not those of the model {config.model.name}") from error
    return TrainedModel(
        module=module.to(device).eval(),
        config=replace(config, data=begun.data),  # which knows where the pack is now
        space=space,
        checkpoint=path,
        step=content["cursor"]["step"],
        identities=identities,
        is_teacher=bool(content["teacher"]),
        device=device,
    )


def _refuse_other_run(begun: TrainConfig, config: TrainConfig, path: Path, run: Path) -> None:
    """Refuse a checkpoint of another run, whose numbers would stand among this run's.

    Raises:
        ConfigError: its settings are not the run's; names the first that differs.
    """
    for name, expected, found in differing_settings(begun, config):
        raise ConfigError(
            f"{path}: not a checkpoint of the run {run}: {name}={found}, expected {expected}; "
            "name the run that it belongs to with --run"
        )


def _checkpoint_path(run: RunFolder, checkpoint: str) -> Path:
    if checkpoint == "best":
        path = run.checkpoints.best
    elif checkpoint == "last":
        newest = run.checkpoints.newest_first()
        path = newest[0] if newest else run.checkpoints.folder / "last"
    else:
        return Path(checkpoint)
    if not path.is_file():
        raise ConfigError(
            f"{run.folder}: no {checkpoint} checkpoint yet, the first epoch has not ended; "
            f"go on with `cxr-train --resume --out {run.folder}`"
        )
    return path
