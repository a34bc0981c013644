"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def temporary_path(path: Path) -> Path:
    """Return where this process writes what becomes `path`.

    The name begins with a dot and has the process number in it, so that two writers never share one.
    """
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


@contextmanager
def atomic_path(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it there, flushed to disk, when the block ends without an error.

    A reader sees the old file or the new one, never a part; an exception leaves nothing behind.

    Without `flush` that holds as long as the machine runs; after a power cut the file may be gone or broken. For notes
    that are checked when they are read and can be made again: each flush waits milliseconds for the disk.

    Raises:
        OSError: as the file system reports it (no space, no permission).
    """
    temporary = temporary_path(path)
    try:
        yield temporary
        if flush:
            fsync_file(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if flush:
        fsync_directory(path.parent)


def write_bytes_atomically(path: Path, content: bytes, *, flush: bool = True) -> None:
    """Write `content` to `path` whole or not at all; see `atomic_path`."""
    with atomic_path(path, flush=flush) as temporary:
        temporary.write_bytes(content)


def fsync_file(path: Path) -> None:
    """Flush the bytes of a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def fsync_directory(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
