"""`resident`: the images of the selection in memory, of the GPU or of the host; a batch is a gather by index.

Only the selection's images are loaded: the loaders of a run's train and valid split together hold each image once.
"""

import math
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import numpy.typing as npt
import torch

from manifests.errors import ConfigError
from pipeline.batch import Batch
from pipeline.loaders.buffers import Pixels
from pipeline.loaders.contract import Batches, Feed, LoadedStep, Loader
from pipeline.loaders.driven import DrivenLoader
from pipeline.loaders.gathered import GatheredLoader
from pipeline.loaders.memory import free_bytes
from pipeline.loaders.stored import StoredPixels
from pipeline.order import OrderStep

USABLE_SHARE = 0.9
"""Of the free memory; the rest is for what allocators round up, and for everything else."""

_LOAD_BYTES = 64 << 20
"""Read and sent to a GPU in one piece."""

_GIB = 1 << 30


def open_resident(feed: Feed) -> Loader:
    """Return the loader for the feed's device.

    Raises:
        ConfigError: the images do not fit into its memory; the message has the arithmetic, and what would fit.
        PackError: a shard is missing, cut short, or does not hold what pack.json says.
    """
    refuse_what_does_not_fit(feed, free_bytes(feed.device))
    return ResidentOnGPU(feed) if feed.device.type == "cuda" else ResidentOnHost(feed)


class ResidentOnGPU(DrivenLoader):
    """Gathers on the GPU, in the stream of whoever asks: no thread, no copy but the indices."""

    def __init__(self, feed: Feed) -> None:
        """Load the images.

        Raises:
            PackError: a shard is missing, cut short, or does not hold what pack.json says.
        """
        super().__init__(feed)
        self._sample_index_n = torch.from_numpy(feed.sample_index_n).to(feed.device)
        self._images_n1HW = load_images(feed)

    def close(self) -> None:
        """Give the memory back."""
        super().close()
        self._images_n1HW = self._images_n1HW.new_empty(0)

    def _read(self, steps: Iterator[OrderStep]) -> Batches:
        for step in steps:
            position_B = torch.from_numpy(step.positions_B).to(self.feed.device, non_blocking=True)
            batch = Batch(self._images_n1HW.index_select(0, position_B), self._sample_index_n[position_B])
            yield LoadedStep(batch, step.consumed, step.num_global)


class ResidentOnHost(GatheredLoader):
    """Gathers as `raw` does, from memory that no page cache can lose."""

    def __init__(self, feed: Feed) -> None:
        """Load the images.

        Raises:
            PackError: a shard is missing, cut short, or does not hold what pack.json says.
        """
        super().__init__(feed)
        self._images_nR = load_images(feed).numpy().reshape(len(feed.sample_index_n), -1)

    def close(self) -> None:
        """End the pass that is open, then give the memory back."""
        super().close()
        self._images_nR = np.empty((0, self._images_nR.shape[1]), np.uint8)

    def _gather(self, position_G: npt.NDArray[np.int64], images_G1HW: Pixels) -> None:
        rows_GR = images_G1HW.reshape(len(position_G), self._images_nR.shape[1])
        np.take(self._images_nR, position_G, axis=0, out=rows_GR, mode="clip")  # "raise" would copy twice


def load_images(feed: Feed) -> torch.Tensor:
    """Return the images of the selection on the feed's device: uint8 [n, 1, H, W].

    Raises:
        PackError: a shard is missing, cut short, or does not hold what pack.json says.
    """
    pack, index_n = feed.pack, feed.sample_index_n
    images_n1HW = torch.empty((len(index_n), 1, pack.height_px, pack.width_px), dtype=torch.uint8, device=feed.device)
    piece_rows = max(1, _LOAD_BYTES // pack.spec.num_pixels)
    with closing(StoredPixels(pack)) as stored:
        for first in range(0, len(index_n), piece_rows):
            place_b1HW = images_n1HW[first : first + piece_rows]
            read_b1HW = torch.empty_like(place_b1HW, device="cpu") if place_b1HW.is_cuda else place_b1HW
            stored.read(index_n[first : first + piece_rows], read_b1HW.numpy())
            if place_b1HW.is_cuda:
                place_b1HW.copy_(read_b1HW)
    return images_n1HW


def refuse_what_does_not_fit(feed: Feed, num_free_bytes: int) -> None:
    """Return if the images of the selection fit into the memory of the device.

    Raises:
        ConfigError: they do not.
    """
    spec, num_images = feed.pack.spec, len(feed.sample_index_n)
    needed, usable = num_images * spec.num_pixels, int(USABLE_SHARE * num_free_bytes)
    if needed <= usable:
        return
    scale = math.sqrt(usable / needed)
    height_px, width_px = (int(side_px * scale) // 8 * 8 for side_px in (spec.height_px, spec.width_px))
    smaller = f"all of them at {height_px} x {width_px} px" if min(height_px, width_px) > 0 else "at no useful size"
    streaming = "raw" if feed.pack.format == "raw" else "ffcv"
    raise ConfigError(
        f"{feed.pack.folder}: the loader resident does not fit: {num_images:,} images x {spec.height_px} x "
        f"{spec.width_px} px = {needed / _GIB:.2f} GiB, on {feed.device} are {num_free_bytes / _GIB:.2f} GiB free, of "
        f"which {USABLE_SHARE:.0%} may be used = {usable / _GIB:.2f} GiB. That is enough for "
        f"{usable // spec.num_pixels:,} of these images, or for {smaller} (`cxr-prep pack --size`); --loader "
        f"{streaming} reads this pack without holding it"
    )
