"""`reference`: one sample after the other with plain file reads; slow, obviously right, the oracle of the others."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from pipeline.batch import Batch
from pipeline.errors import PackError
from pipeline.loaders.contract import Batches, LoadedStep
from pipeline.loaders.driven import DrivenLoader
from pipeline.loaders.npy import cut_short, data_offset
from pipeline.order import OrderStep
from pipeline.pack import Pack, Shard

Image = npt.NDArray[np.uint8]


class ReferenceLoader(DrivenLoader):
    """Opens the shard of every single sample, reads its pixels, and closes it again."""

    def _read(self, steps: Iterator[OrderStep]) -> Batches:
        pack, device = self.feed.pack, self.feed.device
        for step in steps:
            index_B = self.indices_of(step)
            images_B1HW = np.zeros((len(index_B), 1, pack.height_px, pack.width_px), np.uint8)
            for row, sample_index in enumerate(index_B.tolist()):
                images_B1HW[row, 0] = read_sample(pack, sample_index)
            batch = Batch(torch.from_numpy(images_B1HW).to(device), torch.from_numpy(index_B).to(device))
            yield LoadedStep(batch, step.consumed, step.num_global)


def read_sample(pack: Pack, sample_index: int) -> Image:
    """Return the pixels of one sample: uint8 [H, W].

    Raises:
        PackError: no shard holds it, or its shard cannot be read.
    """
    for shard in pack.shards:
        if shard.first_index <= sample_index < shard.first_index + shard.num_samples:
            return _READERS[pack.format](pack, shard, sample_index - shard.first_index)
    raise PackError(f"{pack.folder}: no shard holds sample_index {sample_index}")


def _read_raw(pack: Pack, shard: Shard, row: int) -> Image:
    path = pack.shard_path(shard)
    num_bytes = pack.spec.num_pixels
    offset = data_offset(pack, shard)
    with path.open("rb") as file:
        file.seek(offset + row * num_bytes)
        pixels = file.read(num_bytes)
    if len(pixels) != num_bytes:
        raise cut_short(path, pack, shard, path.stat().st_size)
    return np.frombuffer(pixels, np.uint8).reshape(pack.height_px, pack.width_px)


_READERS: dict[str, Callable[[Pack, Shard, int], Image]] = {"raw": _read_raw}
"""Format of a pack -> how one sample of it is read."""
