"""Checksums of a pack's shards, compared once beside the first epoch by a thread that stays out of the way."""

import contextlib
import os
import sys
import threading

from pipeline.errors import PackError
from pipeline.file_checksum import FileChecksum, shown
from pipeline.loaders.damage import repair, unreadable
from pipeline.pack import Pack, Shard

CHUNK_BYTES = 16 << 20
"""Read and hashed in one go. A thread of low priority may lose its core while it holds the GIL, and everybody waits; so
it takes the GIL seldom: 440 times for 112,120 images of 256 px."""

LOWEST_PRIORITY = 19


class ShardVerification:
    """A thread that reads every shard of a pack and compares it with pack.json; it starts and ends with its owner.

    Pixels that are stored as they are decode whatever they hold, so a flipped bit would be trained on. Reading whole
    files, one after the other, also brings a pack that is not in memory yet into the page cache in the fastest way.
    """

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._error: Exception | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, if it has not begun yet."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="shard-verification", daemon=True)
            self._thread.start()

    def raise_found(self) -> None:
        """Raise what was found so far; costs nothing.

        Raises:
            PackError: a shard has another checksum or cannot be read.
        """
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Wait until every shard was compared.

        Raises:
            PackError: as for `raise_found`.
        """
        if self._thread is not None:
            self._thread.join()
        self.raise_found()

    def stop(self) -> None:
        """End the thread, wherever it is, and wait until it is gone."""
        self._stopped.set()
        if self._thread is not None and not sys.is_finalizing():
            self._thread.join()

    def _run(self) -> None:
        if sys.platform == "linux":  # there a thread has a priority of its own
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
        try:
            buffer = bytearray(min(CHUNK_BYTES, max((shard.num_bytes for shard in self._pack.shards), default=0)))
            for shard in self._pack.shards:
                found = self._checksum(shard, memoryview(buffer))
                if self._stopped.is_set():
                    return
                if found != shard.checksum:
                    self._error = PackError(
                        f"{self._pack.shard_path(shard)}: the shard was changed since it was packed: its checksum is "
                        f"{shown(found)}, expected {shown(shard.checksum)}; {repair(self._pack)}"
                    )
                    return
        except Exception as error:  # noqa: BLE001 - raised by the thread that trains
            self._error = error

    def _checksum(self, shard: Shard, buffer: memoryview) -> str:
        path = self._pack.shard_path(shard)
        checksum = FileChecksum.like(shard.checksum)
        try:
            with path.open("rb", buffering=0) as file:
                while not self._stopped.is_set() and (num_bytes := file.readinto(buffer)):
                    checksum.update(buffer[:num_bytes])
        except OSError as error:
            raise unreadable(path, self._pack, error) from error
        return str(checksum)
