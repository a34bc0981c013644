"""`raw`: rows of memory-mapped shards, gathered by threads off the GIL into buffers that are used again."""

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import torch

from pipeline.batch import Batch
from pipeline.loaders.buffers import BufferPool, Pixels
from pipeline.loaders.contract import Batches, Feed, LoadedStep
from pipeline.loaders.device_stream import DeviceStream
from pipeline.loaders.driven import DrivenLoader
from pipeline.loaders.prefetch import Prefetcher
from pipeline.loaders.shard_map import ShardMap
from pipeline.order import OrderStep


class RawLoader(DrivenLoader):
    """Each thread gathers a whole batch, so that the GIL is left once a batch and the threads need not meet."""

    def __init__(self, feed: Feed) -> None:
        """Map the shards.

        Raises:
            PackError: a shard is missing, cut short, or does not hold what pack.json says.
        """
        super().__init__(feed)
        self._shards = ShardMap(feed.pack)
        self._device_stream = DeviceStream(feed.device) if feed.device.type == "cuda" else None
        self._buffers = BufferPool(self._new_buffer, keep=feed.config.prefetch + feed.config.num_threads)
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
            for loaded in self._loaded:
                if self._device_stream is not None:
                    self._device_stream.hand_over(loaded.batch)
                yield loaded

    def _load(self, step: OrderStep) -> LoadedStep:
        """Return a step's batch; runs in the background."""
        size_px = self.feed.pack.size_px
        index_B = self.indices_of(step)
        images_BR = self._buffers.lend(len(index_B))
        self._shards.gather(index_B, images_BR)
        batch = Batch(torch.from_numpy(images_BR).view(-1, 1, size_px, size_px), torch.from_numpy(index_B))
        if self._device_stream is not None:
            batch = self._device_stream.send(batch)
        return LoadedStep(batch, step.consumed, step.num_global)

    def _new_buffer(self) -> Pixels:
        num_rows = max(self.feed.config.batch_size, 2)  # with a batch_size of 1 the last step may hold two samples
        shape = (num_rows, self.feed.pack.size_px**2)
        if self._device_stream is None:
            return np.empty(shape, np.uint8)
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
