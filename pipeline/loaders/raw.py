"""`raw`: rows of memory-mapped shards, gathered by threads off the GIL into buffers that are used again."""

import numpy as np
import numpy.typing as npt

from pipeline.loaders.buffers import Pixels
from pipeline.loaders.contract import Feed
from pipeline.loaders.gathered import GatheredLoader
from pipeline.loaders.shard_map import ShardMap


class RawLoader(GatheredLoader):
    """Gathers with one `np.take` over all shards, which leaves the GIL once for one or more whole batches."""

    def __init__(self, feed: Feed) -> None:
        """Map the shards.

        Raises:
            PackError: a shard is missing, cut short, or does not hold what pack.json says.
        """
        super().__init__(feed)
        self._shards = ShardMap(feed.pack)
        self._row_n = self._shards.rows_of(feed.sample_index_n)

    def close(self) -> None:
        """End the pass that is open, then unmap the shards."""
        super().close()
        self._shards.close()

    def _gather(self, position_G: npt.NDArray[np.int64], images_G1HW: Pixels) -> None:
        self._shards.check()
        self._shards.gather(self._row_n[position_G], images_G1HW)
