"""Having the disk write what was written already, while the next images are decoded.

Left to itself, Linux begins when the file is flushed at the end, or after half a minute: the processor waits for the
disk then, and before that the disk for the processor.
"""

import ctypes
from collections.abc import Callable
from functools import cache

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


def begin_writeback(descriptor: int, offset: int, num_bytes: int) -> None:
    """Have these bytes of a file written to the disk soon; a hint, whose failure means nothing."""
    function = _sync_file_range()
    if function is not None:
        function(descriptor, offset, num_bytes, SYNC_FILE_RANGE_WRITE)
