"""Where pixels lie in a pack that stores them as they are, raw or beton, and a plain way to read them."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.beton import read_beton
from pipeline.errors import PackError
from pipeline.loaders.damage import cut_short, unreadable
from pipeline.loaders.npy import data_offset
from pipeline.pack import Pack, Shard


class StoredPixels:
    """Reads images by sample_index, one `preadv` each straight to where they belong (6 us for 256 px, off the GIL)."""

    def __init__(self, pack: Pack) -> None:
        """Open the files.

        Raises:
            PackError: a shard is missing, cut short, or does not hold what pack.json says.
        """
        self._pack = pack
        self._shard_N, self._offset_N = pixel_places(pack)
        self._files: list[int] = []
        try:
            for shard in pack.shards:
                self._files.append(os.open(pack.shard_path(shard), os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            self.close()
            raise unreadable(Path(error.filename), pack, error) from error

    def read(self, sample_index_B: npt.NDArray[np.int64], images_B1HW: npt.NDArray[np.uint8]) -> None:
        """Read images into `images_B1HW` (uint8, contiguous).

        Raises:
            PackError: a shard became shorter or cannot be read.
        """
        rows_BR = images_B1HW.reshape(len(sample_index_B), self._pack.spec.num_pixels)
        places = zip(self._shard_N[sample_index_B].tolist(), self._offset_N[sample_index_B].tolist(), strict=True)
        for row, (number, offset) in enumerate(places):
            shard = self._pack.shards[number]
            path = self._pack.shard_path(shard)
            try:
                num_bytes = os.preadv(self._files[number], [rows_BR[row].data], offset)
            except OSError as error:
                raise unreadable(path, self._pack, error) from error
            if num_bytes != rows_BR.shape[1]:
                raise cut_short(path, self._pack, shard, path.stat().st_size)

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.pop())


def pixel_places(pack: Pack) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return for each sample the position of its shard in `pack.shards` and its offset in bytes, both int64 [N].

    Raises:
        PackError: a shard is missing, cut short, or does not hold what pack.json says.
    """
    sizes = [shard.num_samples for shard in pack.shards]
    shard_N = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
    return shard_N, np.concatenate([image_offsets(pack, shard) for shard in pack.shards])


def image_offsets(pack: Pack, shard: Shard) -> npt.NDArray[np.int64]:
    """Return where each image of a shard begins, in bytes from the start of its file: int64 [num_samples].

    Raises:
        PackError: the shard is missing, cut short, or does not hold what pack.json says.
    """
    if pack.format == "raw":
        return data_offset(pack, shard) + np.arange(shard.num_samples, dtype=np.int64) * pack.spec.num_pixels
    if pack.encoding.colour != "gray":
        raise PackError(
            f"{pack.folder}: its beton has the colour {pack.encoding.colour}, our loaders read gray; "
            "run `cxr-prep pack --format beton`"
        )
    return read_beton(pack.shard_path(shard), pack.spec, pack.encoding, shard.num_samples).image_offsets()
