"""`synthetic`: one constant batch under the right indices; what is left when reading costs nothing."""

from collections.abc import Iterator

import torch

from pipeline.batch import Batch
from pipeline.loaders.contract import Batches, Feed, LoadedStep
from pipeline.loaders.driven import DrivenLoader
from pipeline.order import OrderStep


class SyntheticLoader(DrivenLoader):
    """Follows the order and hands out the same pixels every time: the roofline of a training loop, not for training."""

    verifies = False

    def __init__(self, feed: Feed) -> None:
        super().__init__(feed)
        height_px, width_px = feed.pack.height_px, feed.pack.width_px
        ramp_H, ramp_W = torch.linspace(0, 255, height_px), torch.linspace(0, 255, width_px)
        image_HW = ((ramp_H[:, None] + ramp_W[None, :]) / 2).to(torch.uint8)
        # One stored image: a batch of any size is a view of it that repeats along the first axis, made contiguous once.
        largest = max(feed.config.batch_size, 2)
        self._images_B1HW = image_HW.expand(largest, 1, height_px, width_px).contiguous().to(feed.device)

    def _read(self, steps: Iterator[OrderStep]) -> Batches:
        for step in steps:
            index_B = torch.from_numpy(self.indices_of(step)).to(self.feed.device)
            batch = Batch(self._images_B1HW[: len(index_B)], index_B)
            yield LoadedStep(batch, step.consumed, step.num_global)
