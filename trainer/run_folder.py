"""The folder of a run: made whole, locked by the process that trains in it, found again by name.

::

    <run>/
      config.json          the resolved configuration
      events.jsonl         its history (events.lost.jsonl: what a resumed run did again)
      checkpoints/         see trainer.checkpoint
      predictions-*.parquet, metrics.json, report.html   written by `cxr-train evaluate`
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from manifests.atomic import fsync_directory, write_bytes_atomically
from manifests.errors import ConfigError
from manifests.workspace import Workspace
from trainer.checkpoint import CheckpointFolder
from trainer.config import TrainConfig
from trainer.events import last_event
from trainer.sections import as_values, build


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Paths of one run."""

    folder: Path
    """The run's folder."""

    @property
    def config_file(self) -> Path:
        """File of the resolved configuration."""
        return self.folder / "config.json"

    @property
    def events_file(self) -> Path:
        """File of the history."""
        return self.folder / "events.jsonl"

    @property
    def lost_events_file(self) -> Path:
        """File of what happened after the checkpoint that a resumed run started from."""
        return self.folder / "events.lost.jsonl"

    @property
    def checkpoints(self) -> CheckpointFolder:
        """The folder of its checkpoints."""
        return CheckpointFolder(self.folder / "checkpoints")

    @property
    def is_finished(self) -> bool:
        """Tell whether the run came to its end."""
        last = last_event(self.events_file)
        return last is not None and last["event"] == "end"

    @classmethod
    def create(cls, folder: Path, config: TrainConfig) -> "RunFolder":
        """Make a new run's folder with its configuration, whole or not at all.

        Raises:
            ConfigError: it is there already, or cannot be made.
        """
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        run = cls(folder=folder)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            (temporary / "checkpoints").mkdir(parents=True)
            write_bytes_atomically(temporary / "config.json", _as_json(config))
            (temporary / "events.jsonl").touch()
            # Renaming onto a folder that has files fails, so of two processes one gets the name.
            temporary.rename(folder)
            fsync_directory(folder.parent)
        except OSError as error:
            if folder.exists():
                raise ConfigError(
                    f"{folder}: exists already; go on with it by `cxr-train --resume --out {folder}`, "
                    "or choose another --out"
                ) from error
            raise ConfigError(f"{folder}: cannot be made ({error}); choose another --out") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return run

    def write_config(self, config: TrainConfig) -> None:
        """Replace the configuration, whole or not at all; only for the process that holds the run's lock.

        Raises:
            ConfigError: it cannot be written.
        """
        try:
            write_bytes_atomically(self.config_file, _as_json(config))
        except OSError as error:
            raise ConfigError(f"{self.config_file}: cannot be written ({error})") from error

    def read_config(self) -> TrainConfig:
        """Return the configuration that the run was started with.

        Raises:
            ConfigError: the folder is not a run's.
        """
        try:
            values = json.loads(self.config_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.folder}: not the folder of a run: no readable config.json ({error})") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{self.config_file}: expected an object of sections")
        return build(TrainConfig, values, source=str(self.config_file))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out of the run; the lock goes with the process, however it ends.

        Raises:
            ConfigError: another process trains in this run, or its folder cannot be written.
        """
        try:
            file = (self.folder / "lock").open("ab")
        except OSError as error:
            raise ConfigError(f"{self.folder}: cannot be written ({error})") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(f"{self.folder}: another process is training in this run; wait or stop it") from error
            yield


def _as_json(config: TrainConfig) -> bytes:
    return (json.dumps(as_values(config), indent=2) + "\n").encode()


def next_run_name(runs: Path, stem: str) -> str:
    """Return `stem` with the number after the highest that is there: ``stem-001`` for the first."""
    pattern = re.compile(re.escape(stem) + r"-(\d{3,})")
    names = [path.name for path in runs.iterdir()] if runs.is_dir() else []
    numbers = [int(match[1]) for name in names if (match := pattern.fullmatch(name))]
    return f"{stem}-{max(numbers, default=0) + 1:03d}"


def only_unfinished(workspace: Workspace) -> RunFolder:
    """Return the only run of the workspace that did not come to its end.

    Raises:
        ConfigError: there is none, or there are several; the message lists them.
    """
    folders = sorted(workspace.runs.iterdir()) if workspace.runs.is_dir() else []
    runs = [RunFolder(folder=folder) for folder in folders if not folder.name.startswith(".")]
    unfinished = [run for run in runs if run.config_file.is_file() and not run.is_finished]
    if not unfinished:
        raise ConfigError(
            f"--resume: no unfinished run in {workspace.runs}; name one with --out, or start without --resume"
        )
    if len(unfinished) > 1:
        names = "\n".join(f"  {run.folder}" for run in unfinished)
        raise ConfigError(f"--resume: {len(unfinished)} unfinished runs; choose one with --out:\n{names}")
    return unfinished[0]
