"""The most memory that this process has had since it began, as the system counts it."""

import resource
import sys
from pathlib import Path


def peak_memory_bytes() -> int:
    """Return the peak resident set of this process.

    On Linux it is that of the program alone; what `resource` tells there may be that of the process that started it.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
