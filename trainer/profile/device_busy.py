"""How much of the time a GPU has something to do, as torch's profiler sees it."""

from collections.abc import Callable, Iterable

import torch

NUM_STEPS = 3
"""That are profiled, after all that is timed: the profiler costs time itself."""


def device_busy(do_step: Callable[[], object], device: torch.device) -> float | None:
    """Return the share of some steps in which kernels or copies ran; None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(NUM_STEPS):
            do_step()
        torch.cuda.synchronize(device)
    intervals = [
        (event.time_range.start, event.time_range.end) for event in profile.events() if event.device_type.name == "CUDA"
    ]
    if not intervals:
        return None
    return covered(intervals) / float(max(end for _, end in intervals) - min(begin for begin, _ in intervals))


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Return how long at least one of some intervals lasts."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total
