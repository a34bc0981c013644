"""What becomes of a sample of a tar pack that is damaged."""

import logging

from pipeline.errors import PackError
from pipeline.loaders.config import OnCorrupt
from pipeline.loaders.damage import repair
from pipeline.pack import Pack

logger = logging.getLogger(__name__)

SKIPPED = -1
"""Index of a row that does not count: loss weight 0, no memory write."""


class CorruptSamples:
    """Ends the run at the first such sample, or keeps a list of those that were skipped, each said once."""

    def __init__(self, pack: Pack, policy: OnCorrupt) -> None:
        self._pack = pack
        self._policy = policy
        self._found: set[int] = set()

    def add(self, sample_index: int, why: str) -> None:
        """Take note of a sample; the caller hands out zeros under the index `SKIPPED` in its place.

        Raises:
            PackError: the policy is `error`; the message names pack, shard and sample.
        """
        shards = self._pack.shards
        shard = next(shard for shard in reversed(shards) if shard.first_index <= sample_index)
        what = f"{self._pack.shard_path(shard)}: sample_index {sample_index} is damaged: {why}"
        if self._policy == "error":
            raise PackError(f"{what}; {repair(self._pack)}, or train without it: --on-corrupt skip")
        if sample_index not in self._found:
            self._found.add(sample_index)
            logger.warning("%s: skipped", what)

    def __contains__(self, sample_index: int) -> bool:
        return sample_index in self._found

    @property
    def sample_indices(self) -> tuple[int, ...]:
        """The samples that were skipped, ascending."""
        return tuple(sorted(list(self._found)))  # noqa: C414 - a copy in one go: another thread may add
