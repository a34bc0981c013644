"""Pieces of files that are taken out of the page cache, so that the next read is the disk's."""

import ctypes
import mmap
import os
from typing import NamedTuple

import numpy as np

PAGE_BYTES = mmap.PAGESIZE

_libc = ctypes.CDLL(None, use_errno=True)
_IS_CACHED = 1


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

    Linux keeps pages that are mapped by a process, not yet written, or part of a larger one; elsewhere nothing is
    dropped.
    """
    if not hasattr(os, "posix_fadvise") or not pieces:
        return 0.0
    for piece in pieces:
        begin = piece.offset // PAGE_BYTES * PAGE_BYTES
        end = -(-(piece.offset + piece.num_bytes) // PAGE_BYTES) * PAGE_BYTES
        os.posix_fadvise(piece.file, begin, end - begin, os.POSIX_FADV_DONTNEED)
    return 1 - cached(pieces)


def cached(pieces: list[Piece]) -> float:
    """Return the share of pieces whose first page is in the page cache; all of them where the system does not tell.

    Asked of a map that nobody touches: a read that refuses to wait (RWF_NOWAIT) would begin to read ahead.
    """
    num_cached = 0
    for file in {piece.file for piece in pieces}:
        offsets = [piece.offset for piece in pieces if piece.file == file]
        states = _page_states(file)
        num_cached += sum(states is None or bool(states[offset // PAGE_BYTES] & _IS_CACHED) for offset in offsets)
    return num_cached / len(pieces)


def _page_states(file: int) -> "ctypes.Array[ctypes.c_ubyte] | None":
    """Return a byte for each page of a file, as mincore tells; None where it does not."""
    num_bytes = os.fstat(file).st_size
    try:
        with mmap.mmap(file, num_bytes, access=mmap.ACCESS_READ) as mapped:
            states = (ctypes.c_ubyte * -(-num_bytes // PAGE_BYTES))()
            address = np.frombuffer(mapped, np.uint8).ctypes.data
            failed = _libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(num_bytes), states)
            return None if failed else states
    except (OSError, ValueError, AttributeError):
        return None
