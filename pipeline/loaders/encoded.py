"""Encoded images of a tar pack, read by sample_index straight from the shards."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.loaders.damage import cut_short, unreadable
from pipeline.pack import Pack
from pipeline.tar_index import read_tar_index


class EncodedImages(NamedTuple):
    """The files of some rows of a batch; the other rows have none, because their images were rejected."""

    row_G: npt.NDArray[np.int64]
    """int64 [G], ascending: rows of the batch."""

    files: list[npt.NDArray[np.uint8]]
    """The bytes of each, as they are in the shard; read-only."""


class EncodedReader:
    """Reads files by sample_index; any number of threads may read at once.

    A read leaves the GIL, costs 10 us where the file is in the page cache, and cannot crash the process, as a memory
    map of a shard that is cut short would.
    """

    def __init__(self, pack: Pack) -> None:
        """Open the shards.

        Raises:
            PackError: an index file is missing or damaged, or a shard cannot be opened.
        """
        self._pack = pack
        self._index = read_tar_index(pack)
        self._files: list[int] = []
        try:
            for path in self._index.files:
                self._files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            self.close()
            raise unreadable(Path(error.filename), pack, error) from error

    def read(self, sample_index_B: npt.NDArray[np.int64]) -> EncodedImages:
        """Return the files of some samples.

        Raises:
            PackError: a shard became shorter or cannot be read.
        """
        index = self._index
        row_G = np.flatnonzero(index.num_bytes_N[sample_index_B])
        present_G = sample_index_B[row_G]
        places = zip(
            index.shard_N[present_G].tolist(),
            index.offset_N[present_G].tolist(),
            index.num_bytes_N[present_G].tolist(),
            strict=True,
        )
        return EncodedImages(row_G, [self._read_one(*place) for place in places])

    def close(self) -> None:
        """Close the shards."""
        while self._files:
            os.close(self._files.pop())

    def _read_one(self, number: int, offset: int, num_bytes: int) -> npt.NDArray[np.uint8]:
        shard = self._pack.shards[number]
        path = self._pack.shard_path(shard)
        try:
            content = os.pread(self._files[number], num_bytes, offset)
        except OSError as error:
            raise unreadable(path, self._pack, error) from error
        if len(content) != num_bytes:
            raise cut_short(path, self._pack, shard, path.stat().st_size)
        return np.frombuffer(content, np.uint8)
