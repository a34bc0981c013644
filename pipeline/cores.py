"""How many cores this process may use."""

import os


def usable_cores() -> int:
    """Return how many cores this process may run on: what a container or Slurm leaves it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
