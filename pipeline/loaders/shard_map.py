"""All shards of a raw pack side by side in one stretch of address space, so that one call gathers a batch.

::

    shard-00000.npy  [header|row 0|row 1|...|row n-1]              mapped at multiples of the row size
    shard-00001.npy                                  [header|row 0|...]
    address space    |header|  0  |  1  |...| n-1 |gap|  n+g |...

Rows of all shards lie at ``origin + number * row_bytes``; gaps, which cost addresses but no memory, part the shards.
numpy then sees one array [rows, H * W], and a `np.take` of a whole batch leaves the GIL once, however many shards.
"""

import ctypes
import errno
import math
import mmap
import os
import weakref
from typing import Self

import numpy as np
import numpy.typing as npt

from pipeline.errors import PackError
from pipeline.loaders.damage import cut_short, repair
from pipeline.loaders.npy import data_offset
from pipeline.pack import Pack

_HUGE_PAGE_BYTES = 2 << 20
_LARGEST_GAP_BYTES = 1 << 30

_MAP_FIXED = 0x10  # Linux and macOS; Python's mmap module does not name it
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class ShardMap:
    """Read-only map of a raw pack: `gather` copies the rows of any samples into a buffer.

    The files stay open beside the map, so that `check` can look at their sizes (0.3 us each) before a group of gathers.
    """

    def __init__(self, pack: Pack) -> None:
        """Map `pack`.

        Raises:
            PackError: a shard is missing, cut short, or does not hold what pack.json says.
        """
        self._pack = pack
        self._row_bytes = pack.spec.num_pixels
        self._files: list[int] = []
        self._rows = np.empty((0, self._row_bytes), np.uint8)
        offsets = {data_offset(pack, shard) for shard in pack.shards}
        if len(offsets) != 1:
            raise PackError(f"{pack.folder}: its shards have headers of different lengths; {repair(pack)}")
        self._offset = offsets.pop()
        self._needed_bytes = [self._offset + shard.num_samples * self._row_bytes for shard in pack.shards]
        self._first_index = np.array([shard.first_index for shard in pack.shards], np.int64)
        alignment = _alignment(self._row_bytes)
        first_row, num_bytes = self._lay_out(alignment)
        self._skew = np.array(first_row, np.int64) - self._first_index  # row number = sample_index + skew of its shard
        try:
            self._map(first_row, num_bytes, alignment)
        except OSError as error:
            self.close()
            hint = "raise the limit (`ulimit -n`)" if error.errno == errno.EMFILE else repair(pack)
            raise PackError(f"{pack.folder}: its shards cannot be mapped ({error}); {hint}") from error

    def rows_of(self, sample_index_B: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the row numbers of samples, which `gather` takes: int64 [B]."""
        shard_B = np.searchsorted(self._first_index, sample_index_B, side="right") - 1
        return sample_index_B + self._skew[shard_B]

    def gather(self, row_B: npt.NDArray[np.int64], images_B1HW: npt.NDArray[np.uint8]) -> None:
        """Copy rows into `images_B1HW` (uint8 [B, 1, H, W], contiguous), off the GIL."""
        # mode="clip" because numpy's default copies through a second buffer; no row is ever outside.
        np.take(self._rows, row_B, axis=0, out=images_B1HW.reshape(-1, self._row_bytes), mode="clip")

    def check(self) -> None:
        """Look whether every shard is still as long as it was.

        Raises:
            PackError: one has become shorter; to read it would end the process with SIGBUS.
        """
        for number, (file, needed) in enumerate(zip(self._files, self._needed_bytes, strict=True)):
            num_bytes = os.lseek(file, 0, os.SEEK_END)
            if num_bytes < needed:
                shard = self._pack.shards[number]
                raise cut_short(self._pack.shard_path(shard), self._pack, shard, num_bytes)

    def close(self) -> None:
        """Close the files and let go of the map; it goes when nobody (a traceback, say) holds its rows any more."""
        self._rows = np.empty((0, self._row_bytes), np.uint8)
        while self._files:
            os.close(self._files.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lay_out(self, alignment: int) -> tuple[list[int], int]:
        """Return each shard's first row, such that every shard begins aligned, and the bytes of it all."""
        step = math.lcm(alignment, self._row_bytes) // self._row_bytes  # rows between two aligned rows
        first_row, free = [], 0
        for needed in self._needed_bytes:
            first_row.append(free)
            free += -(-needed // self._row_bytes)
            free += -free % step
        return first_row, free * self._row_bytes

    def _map(self, first_row: list[int], num_bytes: int, alignment: int) -> None:
        """Reserve a stretch of addresses with no access and no memory behind it, then lay the files over it."""
        length = num_bytes + alignment
        address = _mapped(None, length, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)
        stretch = (ctypes.c_uint8 * length).from_address(address)
        weakref.finalize(stretch, _libc.munmap, address, length).atexit = False
        origin = -address % alignment
        for shard, row, needed in zip(self._pack.shards, first_row, self._needed_bytes, strict=True):
            file = os.open(self._pack.shard_path(shard), os.O_RDONLY | os.O_CLOEXEC)
            self._files.append(file)
            place = address + origin + row * self._row_bytes
            _mapped(place, needed, mmap.PROT_READ, mmap.MAP_SHARED | _MAP_FIXED, file)
        num_rows = first_row[-1] + self._pack.shards[-1].num_samples
        first = origin + self._offset
        last = first + num_rows * self._row_bytes
        self._rows = np.ctypeslib.as_array(stretch)[first:last].reshape(num_rows, self._row_bytes)
        self._rows.flags.writeable = False


def _alignment(row_bytes: int) -> int:
    """Return the alignment of shards in memory: where it can be had, that of huge pages, else that of pages.

    Linux maps page cache with huge pages only where file and address are aligned alike: a gather then takes 3.3 us an
    image of 256 px instead of 4.6 (measured on ext4, Linux 6.18).
    """
    if math.lcm(row_bytes, _HUGE_PAGE_BYTES) <= _LARGEST_GAP_BYTES:
        return _HUGE_PAGE_BYTES
    return mmap.PAGESIZE


def _mapped(address: int | None, length: int, protection: int, flags: int, file: int) -> int:
    found: int = _libc.mmap(address, length, protection, flags, file, 0)
    if found == _MAP_FAILED:
        code = ctypes.get_errno()
        raise OSError(code, f"mmap of {length:,} bytes: {os.strerror(code)}")
    return found
