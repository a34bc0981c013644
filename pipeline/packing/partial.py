"""The folder that a pack grows in: `<out>.partial`, renamed as a whole when everything is there.

::

    <out>.partial/
      plan.json                    what is being packed: --resume continues only the same
      lock                         byte i is locked by the process that packs shard i, on whatever machine
      ranges/3-of-10               that share was begun with --shard-range 3/10
      finished/shard-00000.json    checksum and rejected images of a finished shard
      checksums/shard-00000.bin    checksums of its samples
      parts/shard-00000.part       finished shards of a format that joins them
      pack/shard-00000.npy         becomes <out>
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from manifests.atomic import fsync_directory, write_bytes_atomically
from pipeline.errors import PackError
from pipeline.pack import PARTIAL_SUFFIX
from pipeline.packing.plan_file import compare_plans
from pipeline.packing.shard_range import ShardRange

SET_UP_BYTE = 1 << 40
"""This byte of the lock is held while the folder is set up or taken down; no pack has so many shards."""


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
    def parts(self) -> Path:
        """Folder of finished shards that are not themselves part of the pack."""
        return self.folder / "parts"

    @property
    def finished(self) -> Path:
        """Folder of the sidecars."""
        return self.folder / "finished"

    @property
    def checksums(self) -> Path:
        """Folder of the checksums of samples."""
        return self.folder / "checksums"

    @property
    def ranges(self) -> Path:
        """Folder of empty files that tell which ranges were begun."""
        return self.folder / "ranges"

    @property
    def plan_file(self) -> Path:
        """What is being packed."""
        return self.folder / "plan.json"

    @property
    def lock_file(self) -> Path:
        """Whose bytes stand for shards."""
        return self.folder / "lock"

    def sidecar(self, number: int) -> Path:
        """Return where a finished shard is noted down."""
        return self.finished / f"shard-{number:05d}.json"

    def checksums_file(self, number: int) -> Path:
        """Return where the checksums of a finished shard's samples lie."""
        return self.checksums / f"shard-{number:05d}.bin"

    def range_counts(self) -> list[int]:
        """Return into how many ranges the shards were shared, by the ranges that were begun; usually one number."""
        names = [path.name.rpartition("-of-")[2] for path in self.ranges.glob("*-of-*")]
        return sorted({int(name) for name in names if name.isdigit()})

    @contextmanager
    def locked(
        self, plan: bytes, numbers: range, *, resume: bool, shard_range: ShardRange | None = None
    ) -> Iterator[None]:
        """Hold the shards `numbers` for this process alone, in a folder made for `plan` or left from a run of it.

        Locks are those of the file system (POSIX record locks, which NFS passes on to its server), so they end with
        the process, however it ends. Several ranges may be held at the same time.

        Raises:
            PackError: there is a folder and neither `resume` nor a range was asked for, it is of another plan, another
                process holds one of these shards, or the file system knows no locks.
            OSError: the folder cannot be written.
        """
        if self.folder.exists() and not resume:
            raise PackError(
                f"{self.folder}: an interrupted pack is there; continue it with --resume, or delete it to start over"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._lock(descriptor, numbers)
            fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, SET_UP_BYTE)
            self._begin(plan, numbers, shard_range)
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, SET_UP_BYTE)
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

    def _lock(self, descriptor: int, numbers: range) -> None:
        """Lock the bytes `numbers`, or say who is in the way."""
        busy = PackError(f"{self.folder}: another process is packing here; wait for it")
        try:
            if numbers:  # a length of 0 would mean: to the end
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, len(numbers), numbers.start)
        except (BlockingIOError, PermissionError) as error:
            raise busy from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            raise PackError(
                f"{self.folder}: this file system knows no locks ({error.strerror}); name a folder on another with "
                "--out, or mount it with locks (Lustre: -o flock)"
            ) from error
        try:
            same = os.path.samestat(os.fstat(descriptor), self.lock_file.stat())
        except FileNotFoundError:
            same = False
        if not same:  # whoever held the lock has published the pack and removed the folder meanwhile
            raise busy

    def _begin(self, plan: bytes, numbers: range, shard_range: ShardRange | None) -> None:
        """Write the plan down, or compare it with what was written; clear away half-written files of these shards."""
        if self.plan_file.exists():
            compare_plans(self.folder, self.plan_file.read_bytes(), plan)
        prefixes = tuple(f".shard-{number:05d}." for number in numbers) if shard_range else (".",)
        for folder in (self.folder, self.pack, self.parts, self.finished, self.checksums, self.ranges):
            folder.mkdir(exist_ok=True)
            for leftover in folder.glob(f".*{PARTIAL_SUFFIX}"):
                if leftover.name.startswith(prefixes):
                    leftover.unlink(missing_ok=True)
        if not self.plan_file.exists():
            write_bytes_atomically(self.plan_file, plan)
        if shard_range:
            (self.ranges / f"{shard_range.index}-of-{shard_range.count}").touch()

    def _remove_notes(self) -> None:
        """Remove all but the pack, and the folder, unless somebody put something else into it."""
        for folder in (self.finished, self.checksums, self.parts, self.ranges):
            shutil.rmtree(folder)
        self.plan_file.unlink(missing_ok=True)
        self.lock_file.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()
