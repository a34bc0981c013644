"""How much memory is free, on a GPU or on the host."""

from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int:
    """Return how many bytes could be allocated on `device` now; on the host within the limit of a container, too."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    return min(_free_on_host(Path("/proc/meminfo")), _free_in_cgroup(_CGROUP))


def _free_on_host(meminfo: Path) -> int:
    """Return what Linux calls available: free, or used by caches that give way."""
    for line in meminfo.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    raise RuntimeError(f"{meminfo}: no MemAvailable")


def _free_in_cgroup(folder: Path) -> int:
    """Return what is left of a container's limit (cgroup version 2), the page cache counted as free."""
    no_limit = 1 << 62
    try:
        limit = (folder / "memory.max").read_text().strip()
        if limit == "max":
            return no_limit
        used = int((folder / "memory.current").read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int(limit) - used + int(statistics["file"])
    except OSError:
        return no_limit  # not in a container, or an older kernel
