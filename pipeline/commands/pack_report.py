"""What `cxr-prep pack` prints when it is done."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.console import err, out
from pipeline.pack_files import num_shards

if TYPE_CHECKING:
    from pipeline.packing.config import PackConfig
    from pipeline.packing.outcome import PackSummary, RangeSummary

LOUD_REJECTED_FRACTION = 0.01
"""From here on rejected images are a warning and not a line of the summary."""


def show(summary: "PackSummary", train_command: str) -> None:
    """Print what was packed, what was not, and what to do next."""
    from pipeline.pack import REJECTED_FILE

    pack, num_rejected = summary.pack, len(summary.pack.rejected)
    resumed = f" ({summary.num_resumed:,} of them before)" if summary.num_resumed else ""
    speed = f"speed     {summary.images_per_s:,.0f} images/s, {summary.elapsed_s:,.1f} s"
    if summary.num_resumed == pack.num_samples:
        speed = "speed     nothing was left to pack"
    lines = [
        f"images    {pack.num_samples - num_rejected:,} of {pack.num_samples:,} packed{resumed}",
        rejected_line(summary.rejected_by_reason),
        f"size      {pack.spec.size} px, {summary.num_bytes / 2**20:,.1f} MiB in {num_shards(len(pack.shards))}",
        speed,
        f"pack      {pack.folder}",
        f"look      cxr-prep info {shlex.quote(str(pack.folder))}",
        f"next      {train_command}",
    ]
    out.print("\n".join(lines), markup=False)
    warn_of_rejected(num_rejected, pack.num_samples, f"see {pack.folder / REJECTED_FILE} before you train on the rest")


def show_range(summary: "RangeSummary", config: "PackConfig") -> None:
    """Print what became of a range, and how the pack is finished."""
    seconds, num_rejected = summary.elapsed_s, sum(summary.rejected_by_reason.values())
    resumed = f" ({summary.num_resumed:,} of them before)" if summary.num_resumed else ""
    packed = summary.num_samples - num_rejected
    lines = [
        f"range     {config.shard_range}: {num_shards(summary.num_shards)}",
        f"images    {packed:,} of {summary.num_samples:,} packed{resumed}",
        rejected_line(summary.rejected_by_reason),
        f"speed     {(summary.num_samples - summary.num_resumed) / seconds:,.0f} images/s, {seconds:,.1f} s",
        f"shards    {summary.partial.folder}",
        f"next      when all ranges are done: {finish_command(sys.argv[1:])}",
    ]
    out.print("\n".join(lines), markup=False)
    warn_of_rejected(num_rejected, summary.num_samples, "they are listed when the pack is finished")


def finish_command(arguments: Sequence[str]) -> str:
    """Return the command that finishes a pack whose range was packed by `cxr-prep` with these arguments."""
    kept, skipped = [], False
    for argument in arguments:
        if argument == "--shard-range":
            skipped = True
        elif skipped or argument.startswith("--shard-range="):
            skipped = False
        else:
            kept.append(argument)
    return shlex.join(["cxr-prep", *kept, "--finish"])


def rejected_line(reasons: Mapping[str, int]) -> str:
    """Return how many images are rejected, and why."""
    from collections import Counter

    from pipeline.packing.rejects import count_reasons

    count = Counter(reasons)
    return f"rejected  {count.total():,}" + (f": {count_reasons(count)}" if count else "")


def warn_of_rejected(num_rejected: int, num_samples: int, where: str) -> None:
    """Print a warning where more images are rejected than anybody expects."""
    if num_rejected > LOUD_REJECTED_FRACTION * num_samples:
        err.print(
            f"warning: {num_rejected / num_samples:.1%} of the images are rejected; {where}",
            style="bold yellow",
            markup=False,
        )
