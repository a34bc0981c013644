"""`ffcv`: one beton file, read by FFCV's compiled code in our order, by threads off the GIL."""

import os

import numpy as np
import numpy.typing as npt

from pipeline.errors import PackError
from pipeline.loaders.buffers import Pixels
from pipeline.loaders.contract import Feed
from pipeline.loaders.damage import cut_short, unreadable
from pipeline.loaders.ffcv_code import FFCVReader
from pipeline.loaders.gathered import GatheredLoader
from pipeline.loaders.stored import image_offsets


class FFCVLoader(GatheredLoader):
    """Hands the indices of each step to FFCV, which copies the images into buffers of ours."""

    def __init__(self, feed: Feed) -> None:
        """Open the beton.

        Raises:
            PackError: it is missing, cut short, of colour images, or does not hold what pack.json says.
        """
        super().__init__(feed)
        pack = feed.pack
        if len(pack.shards) != 1:
            raise PackError(f"{pack.folder}: {len(pack.shards)} shards, expected one beton; pack again")
        image_offsets(pack, pack.shards[0])
        self._reader = FFCVReader(pack.shard_path(pack.shards[0]))

    def close(self) -> None:
        """End the pass that is open, then let go of the file."""
        super().close()
        self._reader.close()

    def _gather(self, position_G: npt.NDArray[np.int64], images_G1HW: Pixels) -> None:
        self._refuse_cut_file()
        self._reader.read(self.feed.sample_index_n[position_G], images_G1HW[:, 0])

    def _refuse_cut_file(self) -> None:
        """Look whether the file is as long as it was: to read a map beyond its end would kill the process."""
        pack = self.feed.pack
        (shard,) = pack.shards
        path = pack.shard_path(shard)
        try:
            num_bytes = os.stat(path).st_size  # noqa: PTH116 - Path.stat takes three times as long
        except OSError as error:
            raise unreadable(path, pack, error) from error
        if num_bytes < shard.num_bytes:
            raise cut_short(path, pack, shard, num_bytes)
