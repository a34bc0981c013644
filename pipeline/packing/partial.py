"""The folder that a pack grows in: `<out>.partial`, renamed as a whole when everything is there.

::

    <out>.partial/
      plan.json                    what is being packed: --resume continues only the same
      finished/shard-00000.json    checksum and rejected images of a finished shard
      pack/shard-00000.npy         becomes <out>
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from manifests.atomic import fsync_directory, write_bytes_atomically
from pipeline.errors import PackError
from pipeline.pack import PARTIAL_SUFFIX


@dataclass(frozen=True, kw_only=True)
class PartialPack:
    """Paths of a pack that is not complete yet."""

    folder: Path
    """`<out>.partial`."""

    out: Path
    """Where the pack appears."""

    @classmethod
    def of(cls, out: Path) -> "PartialPack":
        """Return the partial pack that belongs to `out`."""
        return cls(folder=out.with_name(out.name + PARTIAL_SUFFIX), out=out)

    @property
    def pack(self) -> Path:
        """Folder that becomes the pack."""
        return self.folder / "pack"

    @property
    def finished(self) -> Path:
        """Folder of the sidecars."""
        return self.folder / "finished"

    @property
    def plan_file(self) -> Path:
        """What is being packed."""
        return self.folder / "plan.json"

    def sidecar(self, number: int) -> Path:
        """Return where a finished shard is noted down."""
        return self.finished / f"shard-{number:05d}.json"

    @contextmanager
    def locked(self, plan: bytes, *, resume: bool) -> Iterator[None]:
        """Hold the folder for this process alone, made for `plan` or, with `resume`, left from an earlier run of it.

        Raises:
            PackError: there is one and `resume` was not asked for or does not fit, or another process is packing here.
            OSError: the folder cannot be written.
        """
        if self.folder.exists() and not resume:
            raise PackError(
                f"{self.folder}: an interrupted pack is there; continue it with --resume, or delete it to start over"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released by the system however we end
            except BlockingIOError as error:
                raise PackError(f"{self.folder}: another process is packing here; wait for it") from error
            self._begin(plan)
            yield
        finally:
            os.close(descriptor)

    def publish(self) -> None:
        """Rename the complete pack to where it belongs, then remove what is left.

        Raises:
            OSError: the pack is not in its place. After the rename nothing is an error any more.
        """
        fsync_directory(self.pack)
        self.pack.replace(self.out)
        with suppress(OSError):
            fsync_directory(self.out.parent)
            self._remove_notes()

    def discard(self) -> None:
        """Remove everything that packing wrote."""
        shutil.rmtree(self.pack)
        self._remove_notes()

    def _begin(self, plan: bytes) -> None:
        """Write the plan down, or compare it with what was written; clear away half-written files."""
        if self.plan_file.exists():
            compare_plans(self.folder, self.plan_file.read_bytes(), plan)
        for folder in (self.folder, self.pack, self.finished):
            folder.mkdir(exist_ok=True)
            for leftover in folder.glob(f".*{PARTIAL_SUFFIX}"):
                leftover.unlink(missing_ok=True)
        if not self.plan_file.exists():
            write_bytes_atomically(self.plan_file, plan)

    def _remove_notes(self) -> None:
        """Remove sidecars, plan and the folder, unless somebody put something else into it."""
        shutil.rmtree(self.finished)
        self.plan_file.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


def compare_plans(folder: Path, found: bytes, wanted: bytes) -> None:
    """Return if an interrupted pack is the one that is wanted now.

    Raises:
        PackError: it is not; the message says what differs.
    """
    if found == wanted:
        return
    try:
        was, now = dict(json.loads(found)), json.loads(wanted)
    except (ValueError, TypeError) as error:
        raise PackError(f"{folder}: its plan.json is broken; delete the folder and start over") from error
    differs = "\n  ".join(f"{key} was {was.get(key)}, is now {now[key]}" for key in now if was.get(key) != now[key])
    raise PackError(
        f"{folder}: an interrupted pack of something else; repeat its options, or delete it to start over\n  {differs}"
    )
