"""What `--finish` says when not all shards are there."""

from collections.abc import Sequence

from pipeline.errors import PackError
from pipeline.packing.checksums import shorten
from pipeline.packing.partial import PartialPack
from pipeline.packing.shard_range import ShardRange


def nothing_to_finish(partial: PartialPack) -> PackError:
    """Return the error for a pack that nobody has begun."""
    return PackError(
        f"{partial.folder}: not there, so there is nothing to finish; pack its ranges first, for example with "
        "--shard-range 0/2 and --shard-range 1/2 in place of --finish"
    )


def missing_shards_error(partial: PartialPack, missing: Sequence[int], num_shards: int) -> PackError:
    """Return the error that names the missing shards and the options that pack them."""
    repair = "run the same command with --resume in place of --finish"
    counts = partial.range_counts()
    if len(counts) == 1:
        ranges = (ShardRange(index=index, count=counts[0]) for index in range(counts[0]))
        names = [str(one) for one in ranges if set(one.numbers(num_shards)) & set(missing)]
        repair += ", or again with " + ", ".join(f"--shard-range {name}" for name in names[:20])
        repair += f" ... ({len(names)} ranges)" if len(names) > 20 else ""
    return PackError(
        f"{partial.folder}: {len(missing):,} of {num_shards:,} shards are missing or damaged "
        f"({shorten(missing)}); {repair}"
    )
