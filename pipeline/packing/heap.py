"""Memory that an image needed is kept for the next one, instead of given back to the system and fetched again.

An image of 1024 px is a MiB. glibc takes blocks of this size from the system and returns them at once, and the system
hands out every page of 4 KiB anew, filled with zeros, at the first touch: on a virtual machine half of the time that
decoding takes.
"""

import ctypes
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt` (malloc.h)."""

LARGEST_BYTES = 32 << 20
"""Blocks up to this size are kept; glibc accepts no more."""

KEPT_BYTES = 64 << 20
"""So much free memory at most stays with the process, besides what lies between blocks in use."""


@cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep what this process frees; return whether it will. Other C libraries are left as they are."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function; no way to ask for it
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES) and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
