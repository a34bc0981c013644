"""A run's history: one JSON object a line, units in the names; the console is a view of it.

============ ===========================================================================================================
event        fields beside ``event``
============ ===========================================================================================================
start        seed, device, num_threads, world_size, num_train, num_valid, torch (version),
             cpu_nvum_step (who computes NVUM's step where that is done on a CPU: native or analytic)
resume       epoch, step, checkpoint, num_threads, world_size, cpu_nvum_step
train        epoch, step, loss, bce, reg (means over the samples since the last such event), num_samples,
             num_rows_skipped, num_rows_nonfinite, num_steps_skipped, lr, images_per_s, data_wait_fraction, elapsed_s
epoch        epoch, step, loss, bce, reg (means over the epoch), num_samples, num_rows_skipped, num_rows_nonfinite,
             num_steps_skipped, valid_mean_auroc, valid_auroc, is_best,
             epoch_s (validation included), images_per_s, data_wait_fraction (of the training alone)
memorisation at an epoch's end, with `lab.clean_labels`: epoch, step, num_images (the sampled ones);
             of the labels that are wrong, wrongly "present", wrongly "absent", right, and rightly "present", how
             many there are and which share is fitted (`trainer.memorisation`): num_wrong, wrong_fitted, and so
             on for wrong_present, wrong_absent, right and right_present; against the clean labels of the sample:
             model_mean_auroc, memory_mean_auroc, memory_auroc (finding -> value)
warning      message
restart      epoch, step: weights begin anew before that epoch, where the loss asks for it
stop         epoch, step, signal
end          epoch, step, best_epoch, best_valid_mean_auroc
============ ===========================================================================================================

A value that is not a finite number is null. What happened after the checkpoint that a resumed run starts from is moved
to ``events.lost.jsonl``, since it happens again.
"""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from manifests.errors import ConfigError
from trainer.sinks import Sinks

TIMING_FIELDS = frozenset({"images_per_s", "data_wait_fraction", "elapsed_s", "epoch_s"})
"""Fields that differ from run to run of the same bits."""


class EventLog:
    """Appends events to a file; each line is handed to the system as it is written, then to whoever else looks on."""

    def __init__(self, path: Path, sinks: Sinks | None = None) -> None:
        self.path = path
        self._sinks = sinks or Sinks({})
        self._file = path.open("ab", buffering=0)

    def write(self, event: str, **fields: object) -> None:
        """Append one event.

        Raises:
            ConfigError: it cannot be written; a part of a line is cut back when the run is resumed.
        """
        line = (json.dumps({"event": event} | _finite(fields)) + "\n").encode()
        try:
            num_written = self._file.write(line)
        except OSError as error:
            raise _unwritable(self.path, str(error)) from error
        if num_written != len(line):
            raise _unwritable(self.path, "no space for a whole line")
        self._sinks.write(event, fields)

    def sync(self) -> int:
        """Flush the file to the disk; return its length in bytes: where a resumed run cuts it."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file and the sinks."""
        self._file.close()
        self._sinks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SilentLog(EventLog):
    """The history of a rank that writes none."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull))

    def write(self, event: str, **fields: object) -> None:
        """Write nothing."""

    def sync(self) -> int:
        """Return 0: there is nothing."""
        return 0


def cut_back(path: Path, lost: Path, *, num_bytes: int) -> int:
    """Move what `path` holds after `num_bytes` to the end of `lost`; return how many bytes that were.

    The tail is on the disk in `lost` before it leaves `path`, so that a crash between the two repeats it at worst.
    Where `path` is missing or shorter (deleted or changed since), what is left of it stays, up to its last whole line.

    Raises:
        ConfigError: `path` cannot be written.
    """
    try:
        path.touch()
        with path.open("r+b") as file:
            kept_bytes = file.read(num_bytes)
            num_bytes = kept_bytes.rfind(b"\n") + 1  # a history from before the loss may end within a line here
            file.seek(num_bytes)
            tail = file.read()
            if tail:
                with lost.open("ab") as kept:
                    kept.write(tail if tail.endswith(b"\n") else tail + b"\n")
                    kept.flush()
                    os.fsync(kept.fileno())
            file.truncate(num_bytes)
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(path, str(error)) from error
    return len(tail)


def last_event(path: Path) -> dict[str, Any] | None:
    """Return the last event of a run; None where there is none, or none that can be read."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
        event = json.loads(lines[-1]) if lines else None
    except (OSError, ValueError):
        return None
    return event if isinstance(event, dict) and "event" in event else None


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a run; a last line that a crash cut short is left out.

    Raises:
        ConfigError: a line is no event.
    """
    # Not splitlines, which would also cut at a carriage return.
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            event = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{path}: line {number} is not JSON ({error}); restore the file") from error
        if not isinstance(event, dict) or "event" not in event:
            raise ConfigError(f"{path}: line {number} is not an event; restore the file")
        yield event


def _unwritable(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{path}: the history cannot be written ({why}); make room, then `cxr-train --resume --out {path.parent}`"
    )


def _finite(value: Any) -> Any:
    """Return `value` with null for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
