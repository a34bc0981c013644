"""Pieces of files that are taken out of the page cache, so that the next read is the disk's."""

import os
from typing import NamedTuple

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Piece(NamedTuple):
    """Where one image lies."""

    file: int
    """Descriptor."""

    offset: int
    """In bytes."""

    num_bytes: int
    """Of the image as it is stored."""


def drop(pieces: list[Piece]) -> float:
    """Take the pages of some pieces out of the cache; return the share of pieces that are out of it now.

    Linux keeps pages that are mapped by a process or not yet written; elsewhere nothing is dropped.
    """
    if not hasattr(os, "posix_fadvise"):
        return 0.0
    for piece in pieces:
        begin = piece.offset // PAGE_BYTES * PAGE_BYTES
        end = -(-(piece.offset + piece.num_bytes) // PAGE_BYTES) * PAGE_BYTES
        os.posix_fadvise(piece.file, begin, end - begin, os.POSIX_FADV_DONTNEED)
    return sum(not _is_cached(piece) for piece in pieces) / len(pieces)


def _is_cached(piece: Piece) -> bool:
    """Tell whether a read of the first byte would not wait for the disk."""
    try:
        os.preadv(piece.file, [bytearray(1)], piece.offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except (OSError, AttributeError):  # a file system or a platform that does not tell
        return True
    return True
