"""What packing came to, for whoever asked for it."""

from dataclasses import dataclass

from pipeline.pack import Pack
from pipeline.packing.partial import PartialPack


@dataclass(frozen=True, kw_only=True)
class PackSummary:
    """What packing came to."""

    pack: Pack
    """The complete pack, with its manifest."""

    rejected_by_reason: dict[str, int]
    """Reason -> images without pixels, the most frequent first."""

    num_resumed: int
    """Images in shards that were there before."""

    elapsed_s: float
    """Time that packing took, the check of kept shards included."""

    @property
    def num_bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.num_bytes for shard in self.pack.shards)

    @property
    def images_per_s(self) -> float:
        """Images packed a second by this run."""
        return (self.pack.num_samples - self.num_resumed) / self.elapsed_s


@dataclass(frozen=True, kw_only=True)
class RangeSummary:
    """What packing one `--shard-range` came to."""

    partial: PartialPack
    """Where its shards lie until `--finish`."""

    num_shards: int
    """Shards of the range."""

    num_samples: int
    """Images of the range, rejected ones included."""

    rejected_by_reason: dict[str, int]
    """Reason -> images without pixels, the most frequent first."""

    num_resumed: int
    """Images in shards that were there before."""

    elapsed_s: float
    """Time that packing took, the check of kept shards included."""
