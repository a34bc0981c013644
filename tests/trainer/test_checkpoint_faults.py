"""A fault, or death, at every write of a checkpoint leaves whole ones, and the next write goes well."""

import os
import resource
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from manifests.errors import ConfigError
from tests.trainer.tiny_runs import PROCESSES, largest_file
from trainer.checkpoint import CheckpointFolder, read_checkpoint

OPERATIONS = ["fsync", "replace", "fsync", "unlink"]
"""What a checkpoint asks of the system after its bytes: file, name, folder, and the oldest one goes."""

RENAMED = 1
"""Number of the operation that makes the new checkpoint appear."""

PATIENCE_S = 60.0


def content(step: int) -> dict[str, Any]:
    """A small checkpoint with several tensors: each is a write of its own."""
    return {"cursor": {"step": step}, "student": {f"weight{i}": torch.full((300,), float(step)) for i in range(4)}}


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    """Checkpoints after steps 1 and 2; the third pushes the first one out."""
    folder = CheckpointFolder(tmp_path)
    for step in (1, 2):
        folder.write(step, content(step))
    return folder


def steps_left(folder: CheckpointFolder) -> list[int]:
    """Steps of the checkpoints in the folder, the newest first; each of them is whole."""
    steps = []
    for path in folder.newest_first():
        found = read_checkpoint(path)
        steps.append(found["cursor"]["step"])
        assert all(bool((weight == steps[-1]).all()) for weight in found["student"].values())
    return steps


def assert_the_next_write_goes_well(folder: CheckpointFolder) -> None:
    folder.remove_partial()
    folder.write(3, content(3))
    assert sorted(path.name for path in folder.folder.iterdir()) == ["step-00000002.pt", "step-00000003.pt"]
    assert steps_left(folder) == [3, 2]


def write_points(folder: CheckpointFolder) -> list[int]:
    """Bytes that are there when a tensor's write begins, and one more; at last all of them, but not the directory.

    Not the whole file but for a byte: torch names every entry after the temporary file, which has the process's number
    in its name, so that two processes write some bytes more or less.
    """
    path = folder.folder / "step-00000002.pt"
    with zipfile.ZipFile(path) as archive:
        starts = [entry.header_offset for entry in archive.infolist()]
        return sorted({point for start in starts for point in (start, start + 1)} | {archive.start_dir})


@contextmanager
def acting(
    number: int, *, before: Callable[[], None] | None = None, after: Callable[[], None] | None = None
) -> Iterator[list[str]]:
    """Act before or after the operation `number`; yields the names of those that were asked for."""
    seen: list[str] = []

    def watched(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            seen.append(name)
            is_it = len(seen) == number + 1
            if is_it and before is not None:
                before()
            result = operation(*arguments, **options)
            if is_it and after is not None:
                after()
            return result

        return call

    with (
        patch.object(os, "fsync", watched("fsync", os.fsync)),
        patch.object(os, "replace", watched("replace", os.replace)),
        patch.object(os, "unlink", watched("unlink", os.unlink)),
    ):
        yield seen


def fail() -> None:
    raise OSError(5, "Input/output error")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_checkpoint_asks_of_the_system_what_these_tests_expect(folder: CheckpointFolder) -> None:
    with acting(99) as seen:
        folder.write(3, content(3))
    assert seen == OPERATIONS


@pytest.mark.parametrize("number", range(len(OPERATIONS)))
def test_an_operation_that_fails_leaves_whole_checkpoints(
    number: int, folder: CheckpointFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with acting(number, before=fail):
        if OPERATIONS[number] == "unlink":
            folder.write(3, content(3))
            assert "an old checkpoint cannot be removed" in caplog.text
        else:
            with pytest.raises(ConfigError, match=r"checkpoint cannot be written .*Input/output error"):
                folder.write(3, content(3))
    assert steps_left(folder) == ([2, 1] if number <= RENAMED else [3, 2, 1])
    assert not list(folder.folder.glob(".*")), "nothing half written is left"
    assert_the_next_write_goes_well(folder)


def test_a_write_that_fails_at_any_byte_leaves_whole_checkpoints(folder: CheckpointFolder) -> None:
    points = write_points(folder)
    assert len(points) > 10
    for num_bytes in points:
        with largest_file(num_bytes), pytest.raises(ConfigError, match="checkpoint cannot be written"):
            folder.write(3, content(3))
        assert steps_left(folder) == [2, 1], num_bytes
        assert not list(folder.folder.glob(".*"))
    assert_the_next_write_goes_well(folder)


def write_and_die_at(path: Path, number: int, is_before: bool) -> None:
    with acting(number, **{"before" if is_before else "after": die}):
        CheckpointFolder(path).write(3, content(3))


def write_and_die_at_byte(path: Path, num_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the system kills who writes beyond the limit
    CheckpointFolder(path).write(3, content(3))


def exit_code(target: Callable[..., None], *arguments: Any) -> int | None:
    process = PROCESSES.Process(target=target, args=arguments)
    process.start()
    process.join(PATIENCE_S)
    code: int | None = process.exitcode
    return code


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("number", range(len(OPERATIONS)))
def test_death_around_an_operation_leaves_whole_checkpoints(
    number: int, is_before: bool, folder: CheckpointFolder
) -> None:
    assert exit_code(write_and_die_at, folder.folder, number, is_before) == -signal.SIGKILL
    is_there = number > RENAMED or (number == RENAMED and not is_before)
    is_first_gone = number == len(OPERATIONS) - 1 and not is_before
    assert steps_left(folder) == [3] * is_there + [2] + [1] * (not is_first_gone)
    assert_the_next_write_goes_well(folder)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9, 1.0])
def test_death_in_the_middle_of_a_write_leaves_whole_checkpoints(share: float, folder: CheckpointFolder) -> None:
    points = write_points(folder)
    num_bytes = points[int(share * (len(points) - 1))]
    assert exit_code(write_and_die_at_byte, folder.folder, num_bytes) == -signal.SIGXFSZ
    assert steps_left(folder) == [2, 1]
    (partial,) = folder.folder.glob(".*.partial")
    assert partial.stat().st_size <= num_bytes
    assert_the_next_write_goes_well(folder)
