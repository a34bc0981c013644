"""Encoded images of a tar pack, read by sample_index straight from the shards."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.loaders.damage import cut_short, unreadable
from pipeline.loaders.sample_checksums import checksums_of
from pipeline.pack import Pack
from pipeline.tar_index import read_tar_index

File = npt.NDArray[np.uint8]


class EncodedImages(NamedTuple):
    """What was found for the rows of a batch; a row that is in neither has no image, because it was rejected."""

    files: dict[int, File]
    """Row of the batch -> the bytes of its image as they are in the shard, read-only."""

    damaged: dict[int, str]
    """Row of the batch -> why its bytes are not those that were packed."""


class EncodedReader:
    """Reads files by sample_index; any number of threads may read at once.

    A read leaves the GIL, costs 10 us where the file is in the page cache, and cannot crash the process, as a memory
    map of a shard that is cut short would. The checksum of each sample is compared when it is read for the first time.
    """

    def __init__(self, pack: Pack, *, verify: bool) -> None:
        """Open the shards.

        Raises:
            PackError: an index file or the checksums are missing or damaged, or a shard cannot be opened.
        """
        self._pack = pack
        self._index = read_tar_index(pack)
        self._checksums = checksums_of(pack) if verify else None
        self._verified_N = np.full(pack.num_samples, self._checksums is None)
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
        found = EncodedImages({}, {})
        for row in np.flatnonzero(self._index.num_bytes_N[sample_index_B]).tolist():
            sample_index = int(sample_index_B[row])
            problem = None if self._verified_N[sample_index] else self._problem(sample_index)
            if problem is None:
                content = self._pread(sample_index, self._index.offset_N, self._index.num_bytes_N)
                found.files[row] = np.frombuffer(content, np.uint8)
            else:
                found.damaged[row] = problem
        return found

    def close(self) -> None:
        """Close the shards."""
        while self._files:
            os.close(self._files.pop())

    def _problem(self, sample_index: int) -> str | None:
        """Return what is wrong with the bytes of a sample, which is not asked again if nothing is."""
        assert self._checksums is not None
        content = self._pread(sample_index, self._checksums.offset_N, self._checksums.num_bytes_N)
        problem = self._checksums.problem(sample_index, content)
        self._verified_N[sample_index] = problem is None
        return problem

    def _pread(self, sample_index: int, offset_N: npt.NDArray[np.int64], num_bytes_N: npt.NDArray[np.int64]) -> bytes:
        number, num_bytes = int(self._index.shard_N[sample_index]), int(num_bytes_N[sample_index])
        shard = self._pack.shards[number]
        path = self._pack.shard_path(shard)
        try:
            content = os.pread(self._files[number], num_bytes, int(offset_N[sample_index]))
        except OSError as error:
            raise unreadable(path, self._pack, error) from error
        if len(content) != num_bytes:
            raise cut_short(path, self._pack, shard, path.stat().st_size)
        return content
