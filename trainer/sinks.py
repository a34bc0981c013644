"""Where events of a run go beside its history, if asked for: TensorBoard, Weights & Biases. Views, never the truth."""

import hashlib
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from manifests.errors import ConfigError
from pipeline.errors import MissingBackendError
from trainer.config import RunConfig

logger = logging.getLogger(__name__)

SHOWN = ("train", "epoch")
"""Events whose numbers are curves."""


class Sink(Protocol):
    """Takes the numbers of an event."""

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Show numbers by their names (`epoch/valid_auroc/Mass`) at an optimiser step."""
        ...

    def close(self) -> None:
        """Hand over what is still waiting."""
        ...


class Sinks:
    """The sinks of a run. One that fails is closed with a warning: the run goes on."""

    def __init__(self, sinks: Mapping[str, Sink]) -> None:
        """Take open sinks, by their names."""
        self._open = dict(sinks)

    def write(self, event: str, fields: Mapping[str, object]) -> None:
        """Show the numbers of an event that has some and belongs to a step."""
        step, numbers = fields.get("step"), scalars(event, fields)
        if not numbers or not isinstance(step, int):
            return
        for name, sink in [*self._open.items()]:
            try:
                sink.write(numbers, step)
            except Exception as error:  # noqa: BLE001 - whatever it is, no view of a run is worth the run
                del self._open[name]
                logger.warning("%s: failed and is left out from now on (%s: %s)", name, type(error).__name__, error)

    def close(self) -> None:
        """Close those that are still open."""
        while self._open:
            name, sink = self._open.popitem()
            try:
                sink.close()
            except Exception as error:  # noqa: BLE001 - as above
                logger.warning("%s: could not be closed (%s: %s)", name, type(error).__name__, error)


def scalars(event: str, fields: Mapping[str, object]) -> dict[str, float]:
    """Return the numbers of an event that is shown, by its name and theirs; what is missing (None) is left out."""
    numbers: dict[str, float] = {}
    if event not in SHOWN:
        return numbers
    for name, value in fields.items():
        items = value if isinstance(value, Mapping) else {"": value}
        for key, item in items.items():
            if isinstance(item, int | float) and not isinstance(item, bool) and name not in ("epoch", "step"):
                numbers[f"{event}/{name}/{key}" if key else f"{event}/{name}"] = float(item)
    return numbers


class TensorBoard:
    """Event files in the run's folder; what a resumed run does again takes the place of what it did before."""

    def __init__(self, folder: Path, *, step: int) -> None:
        """Begin a new file.

        Args:
            folder: the run's.
            step: optimiser steps done before.
        """
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Append them."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is still waiting."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, which a resumed run goes on with; `WANDB_MODE` and the like are heeded."""

    def __init__(self, folder: Path, *, project: str, config: Mapping[str, object]) -> None:
        """Begin or go on.

        Args:
            folder: the run's; its name is the name there, its path decides whether it is the same one.
            project: where it appears.
            config: shown beside it.

        Raises:
            ConfigError: nobody is logged in, or no connection.
        """
        import wandb

        identity = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        try:
            self._run: Any = wandb.init(
                project=project, name=folder.name, id=identity, resume="allow", dir=str(folder), config=dict(config)
            )
        except Exception as error:  # its own errors derive from nothing narrower
            raise ConfigError(
                f"run.wandb=true: Weights & Biases cannot begin ({error}); run `wandb login`, set WANDB_MODE=offline, "
                "or leave it out with --set run.wandb=false"
            ) from error

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Send them."""
        self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        """Send what is still waiting."""
        self._run.finish()


def refuse_missing_sinks(config: RunConfig) -> None:
    """Refuse sinks whose package is not installed.

    Raises:
        MissingBackendError: names the extra.
    """
    for asked, name in ((config.tensorboard, "tensorboard"), (config.wandb, "wandb")):
        if asked and find_spec(name) is None:
            raise MissingBackendError(
                f"run.{name}=true: {name} is not installed; `pip install 'cxr-nvum[{name}]'`, or leave it out"
            )


def open_sinks(folder: Path, config: RunConfig, *, values: Mapping[str, object], step: int) -> Sinks:
    """Return the sinks that are asked for.

    Args:
        folder: the run's.
        config: which.
        values: the whole configuration, to be shown.
        step: optimiser steps done before.

    Raises:
        ConfigError: one cannot begin.
    """
    sinks: dict[str, Sink] = {}
    if config.tensorboard:
        sinks["TensorBoard"] = TensorBoard(folder, step=step)
    if config.wandb:
        sinks["Weights & Biases"] = WeightsAndBiases(folder, project=config.wandb_project, config=values)
    return Sinks(sinks)
