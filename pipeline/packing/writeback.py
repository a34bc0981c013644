"""What Linux is told about a file that grows: reserve room for it, write what is there already.

Room that is reserved in one piece makes writing cheaper, and a disk that is too full is known before the first image.
Left to itself, Linux begins when the file is flushed at the end, or after half a minute: the processor waits for the
disk then, and before that the disk for the processor.
"""

import ctypes
import errno
import os
from collections.abc import Callable
from functools import cache

FALLOC_FL_KEEP_SIZE = 1
"""Reserve room beyond the end of a file and leave its size alone (falloc.h)."""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What the disk, the quota and the file system say; whatever else is wrong, writing tells."""

SYNC_FILE_RANGE_WRITE = 2
"""Begin to write dirty pages and do not wait for them (fcntl.h)."""


@cache
def _sync_file_range() -> Callable[..., int] | None:
    """Return Linux's function of this name; None elsewhere."""
    try:
        function = ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function


@cache
def _fallocate() -> Callable[..., int] | None:
    """Return Linux's function of this name; None elsewhere."""
    try:
        function = ctypes.CDLL(None, use_errno=True).fallocate
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return function


def reserve(descriptor: int, num_bytes: int) -> None:
    """Reserve room for the first bytes of an empty file; a file system that cannot is left alone.

    Raises:
        OSError: there is no room.
    """
    function = _fallocate()
    if function is None or num_bytes == 0 or function(descriptor, FALLOC_FL_KEEP_SIZE, 0, num_bytes) == 0:
        return
    number = ctypes.get_errno()
    if number in NO_ROOM:
        raise OSError(number, os.strerror(number))


def begin_writeback(descriptor: int, offset: int, num_bytes: int) -> None:
    """Have these bytes of a file written to the disk soon; a hint, whose failure means nothing."""
    function = _sync_file_range()
    if function is not None:
        function(descriptor, offset, num_bytes, SYNC_FILE_RANGE_WRITE)
