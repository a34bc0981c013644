"""What backends share whose images lie ready as they are: threads that gather whole batches into buffers used again."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from pipeline.batch import Batch
from pipeline.loaders.buffers import BufferPool, Pixels
from pipeline.loaders.contract import Batches, Feed, LoadedStep
from pipeline.loaders.device_stream import DeviceStream
from pipeline.loaders.driven import DrivenLoader
from pipeline.loaders.prefetch import Prefetcher
from pipeline.order import OrderStep

_GROUP_BYTES = 16 << 20
"""Pixels that a thread gathers in one go, 256 images of 256 px: handing over costs two thread switches (80 us on a
virtual machine) and some Python, which small batches share."""

_GROUP_IMAGES = 1024
"""Limit of the same for small images."""


class GatheredLoader(DrivenLoader):
    """Each thread gathers one or more whole batches into one buffer; the backend says what gathering is."""

    def __init__(self, feed: Feed) -> None:
        super().__init__(feed)
        config = feed.config
        group_images = min(_GROUP_IMAGES, _GROUP_BYTES // feed.pack.spec.num_pixels)
        self.steps_per_group = max(1, group_images // config.batch_size)
        """Batches that share a gather and a buffer."""
        # One more than threads, so that none waits for the consumer to take a result.
        self._groups_ahead = max(config.num_threads + 1, math.ceil(config.prefetch / self.steps_per_group))
        self._device_stream = DeviceStream(feed.device) if feed.device.type == "cuda" else None
        self._buffers = BufferPool(self._new_buffer, keep=self.num_buffers)
        self._loaded: Prefetcher[list[OrderStep], list[LoadedStep]] | None = None

    @abstractmethod
    def _gather(self, position_G: npt.NDArray[np.int64], images_G1HW: Pixels) -> None:
        """Copy the images at some positions of the selection into `images_G1HW` (uint8, contiguous), off the GIL.

        Several threads call it at once.

        Raises:
            PackError: the pack was damaged since it was opened.
        """

    @property
    def num_buffers(self) -> int:
        """Buffers that a steady loop goes round in: those ahead, the consumer's and the one it had before."""
        return self._groups_ahead + 2

    def close(self) -> None:
        """End the pass that is open; after this no thread gathers, and a backend may let go of its images."""
        super().close()
        if self._loaded is not None:
            self._loaded.close()

    def _read(self, steps: Iterator[OrderStep]) -> Batches:
        groups = iter(lambda: list(islice(steps, self.steps_per_group)), [])
        self._loaded = Prefetcher(
            self._load,
            groups,
            num_threads=self.feed.config.num_threads,
            depth=self._groups_ahead,
            name=f"{self.feed.config.backend}-loader",
        )
        with closing(self._loaded):
            for group in self._loaded:
                group.reverse()
                while group:  # popped, because a batch that was handed over is the consumer's alone
                    loaded = group.pop()
                    if self._device_stream is not None:
                        self._device_stream.hand_over(loaded.batch)
                    yield loaded

    def _load(self, steps: list[OrderStep]) -> list[LoadedStep]:
        """Return the batches of some steps, views of one buffer; runs in the background."""
        position_G = np.concatenate([step.positions_B for step in steps])
        images_G1HW = self._buffers.lend(len(position_G))
        self._gather(position_G, images_G1HW)
        group = Batch(torch.from_numpy(images_G1HW), torch.from_numpy(self.feed.sample_index_n[position_G]))
        if self._device_stream is not None:
            group = self._device_stream.send(group)
        sizes = [len(step.positions_B) for step in steps]
        batches = map(Batch, *(torch.split(tensor, sizes) for tensor in group))
        return [LoadedStep(batch, step.consumed, step.num_global) for batch, step in zip(batches, steps, strict=True)]

    def _new_buffer(self) -> Pixels:
        pack = self.feed.pack
        most = self.steps_per_group * self.feed.config.batch_size + 1  # a batch_size of 1 may end with a step of two
        shape = (min(most, len(self.feed.sample_index_n)), 1, pack.height_px, pack.width_px)
        if self._device_stream is None:
            return np.empty(shape, np.uint8)
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
