"""Parts that are timed side by side: interleaved rounds in one process, median and spread, one CSV row each."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from tools.benchmark import append_row, summarise

PROFILED_CALLS = 20


class Part(NamedTuple):
    """One thing to time."""

    what: str
    """Name in the table."""

    peer: str
    """Name of the part that it is compared with; its own where there is none."""

    num_items: int
    """Items of one call, for the rate."""

    unit: str
    """What an item is."""

    call: Callable[[], object]
    """Does the work once."""

    num_bytes: int = 0
    """Bytes that the work has to move at least; 0: not counted."""


def run_parts(
    parts: Sequence[Part], *, rounds: int, path: Path, columns: Mapping[str, object], device: str = "cpu"
) -> None:
    """Time all parts, round after round; print a line and append a row for each.

    Args:
        parts: what to time; peers among them.
        rounds: timed rounds; one more warms up.
        path: CSV file of the rows.
        columns: what every row says besides.
        device: `cpu` or `cuda`; on CUDA a call ends when the device has done it, and the device's own time and the
            number of its launches are profiled afterwards.
    """
    times_s: dict[str, list[float]] = {part.what: [] for part in parts}
    for number in range(rounds + 1):
        for part in parts:
            part.call()  # not timed: who comes after a large network would find its caches cold
            wait_for(device)
            begin_s = time.perf_counter()
            part.call()
            wait_for(device)
            if number:  # the first round warms up
                times_s[part.what].append(time.perf_counter() - begin_s)
    medians_s = {what: summarise(values).median for what, values in times_s.items()}
    bytes_per_s = copy_bytes_per_s(device) if any(part.num_bytes for part in parts) else 0.0
    for part in parts:
        summary = summarise(times_s[part.what])
        ratio = medians_s[part.peer] / summary.median
        rate = part.num_items / summary.median
        row = dict(columns) | {
            "what": part.what,
            "rounds": rounds,
            "median_ms": f"{summary.median * 1e3:.4f}",
            "min_ms": f"{summary.min * 1e3:.4f}",
            "max_ms": f"{summary.max * 1e3:.4f}",
            "per_s": f"{rate:.0f}",
            "unit": part.unit,
            "peer": part.peer,
            "speed_over_peer": f"{ratio:.3f}",
        }
        line = (
            f"{part.what:50s} {summary.median * 1e3:9.3f} ms ({summary.min * 1e3:.3f} to {summary.max * 1e3:.3f})  "
            f"{rate:14,.0f} {part.unit}/s  {ratio:6.2f} x {part.peer}"
        )
        busy_s = summary.median
        if device == "cuda":
            busy_s, num_launches = device_time(part.call)
            row |= {"device_us": f"{busy_s * 1e6:.2f}", "launches": f"{num_launches:.1f}"}
            line += f"; device {busy_s * 1e6:.2f} us in {num_launches:.1f} launches"
        if part.num_bytes:
            share = part.num_bytes / busy_s / bytes_per_s
            row |= {"num_bytes": part.num_bytes, "share_of_copy_bandwidth": f"{share:.4f}"}
            line += f"; {part.num_bytes / 1024:,.0f} KiB at {100 * share:.1f} % of the bandwidth of a copy"
        print(line)
        append_row(path, row)


def wait_for(device: str) -> None:
    """Return when the device has nothing left to do."""
    if device == "cuda":
        torch.cuda.synchronize()


def copy_bytes_per_s(device: str, num_bytes: int = 1 << 28) -> float:
    """Return how many bytes a second a large copy reads and writes."""
    source = torch.ones(num_bytes // 4, device=device)
    target = torch.empty_like(source)
    times_s = []
    for _ in range(8):
        wait_for(device)
        begin_s = time.perf_counter()
        target.copy_(source)
        wait_for(device)
        times_s.append(time.perf_counter() - begin_s)
    return 2 * num_bytes / min(times_s)


def device_time(call: Callable[[], object]) -> tuple[float, float]:
    """Return seconds that kernels and copies of one call keep a GPU busy, and how many they are."""
    call()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(PROFILED_CALLS):
            call()
        torch.cuda.synchronize()
    events = [event for event in profile.events() if event.device_type.name == "CUDA"]
    busy_us = sum(event.time_range.elapsed_us() for event in events)
    return busy_us * 1e-6 / PROFILED_CALLS, len(events) / PROFILED_CALLS
