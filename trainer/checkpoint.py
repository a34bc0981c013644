"""Checkpoints of a run: whole or absent, the newest two and the best kept, bound to what they were made of.

::

    checkpoints/
      step-00001200.pt   after 1,200 optimiser steps
      step-00001308.pt   the last one: `--resume` goes on from here
      best.pt            the best epoch on validation: what `evaluate` measures
"""

import logging
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from manifests.atomic import atomic_path
from manifests.errors import ConfigError

logger = logging.getLogger(__name__)

FORMAT = "cxr-nvum checkpoint"
SCHEMA_VERSION = 1

NUM_KEPT = 2
"""Newest step checkpoints that stay: one to go on from, one more should the newest turn out to be unreadable."""

_DISK_TROUBLE = re.compile(r"PytorchStreamWriter|unexpected pos|iostream error")

_NAME = re.compile(r"step-(\d{8,})\.pt")

Checkpoint = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Identities:
    """What a checkpoint belongs to; a run goes on only where all of it is the same."""

    model: str
    """Name of the network."""

    input_size_px: int
    """Side of the images that the network sees."""

    pack: str
    """Identity of the pack: the memory's rows are its rows."""

    label_space: str
    """Name of the label space."""

    findings: tuple[str, ...]
    """Its outputs, in order."""

    selection: str
    """sha256 over the training rows, their targets and masks."""

    prior: tuple[float, ...]
    """Class prior of the training rows, one number an output."""

    order_version: int
    """Version of the epoch order."""

    def check(self, found: Mapping[str, Any], path: Path) -> None:
        """Refuse the identities `found` in the checkpoint `path` unless they are these.

        Raises:
            ConfigError: one line that names the first difference.
        """
        for field in fields(self):
            expected, value = getattr(self, field.name), found.get(field.name)
            value = tuple(value) if isinstance(value, list) else value
            if value != expected:
                what = field.name.replace("_", " ")
                raise ConfigError(
                    f"{path}: checkpoint of another {what}: found {_short(value)}, this run has {_short(expected)}; "
                    f"resume with what the run began with, or start a new one with another --out"
                )


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all, flushed to the disk.

    Raises:
        ConfigError: it cannot be written (no space, no permission); the checkpoints that are there stay.
    """
    try:
        with atomic_path(path) as temporary:
            torch.save({"format": FORMAT, "schema_version": SCHEMA_VERSION} | checkpoint, temporary)
    except (OSError, RuntimeError) as error:
        # torch's zip writer reports a full disk as a RuntimeError; any other one is a fault of ours.
        if not isinstance(error, OSError) and not _DISK_TROUBLE.search(str(error)):
            raise
        run = path.parent.parent
        raise ConfigError(
            f"{path}: checkpoint cannot be written ({_first_line(error)}); earlier ones are whole: "
            f"make room, then `cxr-train --resume --out {run}`"
        ) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint in `path`, its tensors on the CPU; only tensors and plain values are ever unpickled.

    Raises:
        ConfigError: there is no such file, it is not a checkpoint of ours, or it is one of another schema.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such checkpoint")
    if not zipfile.is_zipfile(path):
        raise ConfigError(f"{path}: not a readable checkpoint (not a file that torch.save writes)")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's own words advise to run whatever code is in the file
        raise ConfigError(
            f"{path}: not a readable checkpoint (damaged, or not tensors and plain values only)"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise ConfigError(f"{path}: not a readable checkpoint ({_first_line(error)})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ConfigError(f"{path}: not a checkpoint of cxr-train; expected one from a run's checkpoints/ folder")
    if content.get("schema_version") != SCHEMA_VERSION:
        raise ConfigError(
            f"{path}: checkpoint of schema version {content.get('schema_version')}, this program reads "
            f"{SCHEMA_VERSION}; use the version of cxr-nvum that wrote it"
        )
    return content


class CheckpointFolder:
    """The folder `checkpoints/` of a run: names, rotation, and the newest one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def best(self) -> Path:
        """Path of the best epoch's checkpoint."""
        return self.folder / "best.pt"

    def newest_first(self) -> list[Path]:
        """Return the step checkpoints, the newest first."""
        if not self.folder.is_dir():
            return []
        found = [(int(match[1]), path) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found, reverse=True)]

    def write(self, step: int, checkpoint: Checkpoint) -> Path:
        """Write the checkpoint after `step` optimiser steps, then drop those beyond the newest two."""
        path = self.folder / f"step-{step:08d}.pt"
        write_checkpoint(path, checkpoint)
        for old in self.newest_first()[NUM_KEPT:]:
            try:
                old.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("%s: an old checkpoint cannot be removed (%s)", old, error)
        return path

    def remove_partial(self) -> None:
        """Remove what a killed process left half written; only for the process that holds the run's lock."""
        for path in self.folder.glob(".*.partial"):
            path.unlink(missing_ok=True)


def identities_as_values(identities: Identities) -> dict[str, Any]:
    """Return identities as plain values, for a checkpoint."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(identities).items()}


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
