"""`raw`: rows of memory-mapped shards, gathered by threads off the GIL into buffers that are used again."""

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import torch

from pipeline.batch import Batch
from pipeline.loaders.buffers import BufferPool
from pipeline.loaders.contract import Batches, Feed, LoadedStep
from pipeline.loaders.driven import DrivenLoader
from pipeline.loaders.prefetch import Prefetcher
from pipeline.loaders.shard_map import ShardMap
from pipeline.order import OrderStep


class RawLoader(DrivenLoader):
    """Each thread gathers a whole batch, so that the GIL is left once a batch and the threads need not meet."""

    def __init__(self, feed: Feed) -> None:
        super().__init__(feed)
        self._shards = ShardMap(feed.pack)
        rows = max(feed.config.batch_size, 2)  # with a batch_size of 1 the last step may hold two samples
        row_bytes = feed.pack.size_px * feed.pack.size_px
        self._buffers = BufferPool(lambda: np.empty((rows, row_bytes), np.uint8), keep=feed.config.prefetch + 2)
        self._loaded: Prefetcher[OrderStep, LoadedStep] | None = None

    def close(self) -> None:
        """End the pass that is open, then unmap the shards: no thread may be reading them."""
        super().close()
        if self._loaded is not None:
            self._loaded.close()
        self._shards.close()

    def _read(self, steps: Iterator[OrderStep]) -> Batches:
        config = self.feed.config
        self._loaded = Prefetcher(
            self._load, steps, num_threads=config.num_threads, depth=config.prefetch, name="raw-loader"
        )
        with closing(self._loaded):
            yield from self._loaded

    def _load(self, step: OrderStep) -> LoadedStep:
        size_px = self.feed.pack.size_px
        index_B = self.indices_of(step)
        images_BR = self._buffers.lend(len(index_B))
        self._shards.gather(index_B, images_BR)
        images_B1HW = torch.from_numpy(images_BR).view(-1, 1, size_px, size_px)
        return LoadedStep(Batch(images_B1HW, torch.from_numpy(index_B)), step.consumed, step.num_global)
