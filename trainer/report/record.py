"""What a run folder tells: configuration, events and evaluations, any of which may not be there yet."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.errors import ConfigError
from trainer.events import read_events

CONFIG_FILE = "config.json"
EVENTS_FILE = "events.jsonl"
METRICS_FILE = "metrics.json"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run folder in memory."""

    folder: Path
    """The run folder."""

    config: dict[str, Any]
    """The resolved configuration; empty where there is none."""

    events: tuple[dict[str, Any], ...]
    """Events in the order in which they happened."""

    evaluations: tuple[dict[str, Any], ...]
    """Entries of metrics.json, in the order in which they were first written."""

    @property
    def name(self) -> str:
        """Name of the run: that of its folder."""
        return self.folder.resolve().name

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one kind."""
        return [event for event in self.events if event.get("event") == kind]

    def differences_of(self, entry: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what `cxr-train evaluate --against` wrote for an evaluation, by the name of the other run.

        Raises:
            ConfigError: such a file is not JSON.
        """
        stem = Path(entry.get("predictions", "")).stem
        files = sorted(self.folder.glob("*-against-*.json")) if stem else []
        return [read_object(path) for path in files if path.name.startswith(f"{stem}-against-")]

    def setting(self, section: str, key: str) -> Any:
        """Return a value of the configuration; None if it is not there."""
        values = self.config.get(section)
        return values.get(key) if isinstance(values, dict) else None


def read_record(folder: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        ConfigError: there is no such folder, or nothing of a run in it, or one of its files is not JSON.
    """
    if not any((folder / name).is_file() for name in (CONFIG_FILE, EVENTS_FILE, METRICS_FILE)):
        raise ConfigError(
            f"{folder}: no run: expected {CONFIG_FILE}, {EVENTS_FILE} or {METRICS_FILE} in it; "
            "`cxr-train --out DIR` makes one"
        )
    metrics = read_object(folder / METRICS_FILE)
    events_file = folder / EVENTS_FILE
    events = tuple(read_events(events_file)) if events_file.is_file() else ()
    return RunRecord(
        folder=folder,
        config=read_object(folder / CONFIG_FILE),
        events=events,
        evaluations=tuple(metrics.get("evaluations", ())),
    )


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, or an empty one where there is no file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error}); the file was changed by hand?") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content
