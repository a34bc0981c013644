"""The checksum that packing wrote down for every sample, for loaders that read one sample at a time."""

import hashlib
import io
import zlib

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from pipeline.errors import PackError
from pipeline.loaders.damage import repair, unreadable
from pipeline.pack import CHECKSUMS_FILE, Pack


class SampleChecksums:
    """CRC-32 of the bytes that are a sample's own in its shard, in a tar the headers and the other members included.

    A JPEG has no checksum of its own: of a flipped bit in it most decoders make a slightly different image.
    """

    def __init__(self, pack: Pack) -> None:
        """Read the pack's checksums.

        Raises:
            PackError: they are missing or damaged.
        """
        path = pack.folder / CHECKSUMS_FILE
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != pack.checksums_sha256:
                raise PackError(f"{path}: damaged, or another pack's; {repair(pack)}")
            table = pq.read_table(io.BytesIO(content))
        except OSError as error:
            raise unreadable(path, pack, error) from error
        self.offset_N: npt.NDArray[np.int64] = table.column("offset").to_numpy()
        """Where a sample's bytes begin in its shard."""
        self.num_bytes_N: npt.NDArray[np.int64] = table.column("num_bytes").to_numpy()
        """How many they are."""
        self._crc32_N: npt.NDArray[np.uint32] = table.column("crc32").to_numpy()

    def problem(self, sample_index: int, content: bytes) -> str | None:
        """Return what is wrong with the bytes of a sample, None if they are those that were packed."""
        found, expected = zlib.crc32(content), int(self._crc32_N[sample_index])
        return None if found == expected else f"its checksum is {found:08x}, expected {expected:08x}"


def checksums_of(pack: Pack) -> SampleChecksums | None:
    """Return the pack's checksums; None where it was made without any."""
    return SampleChecksums(pack) if pack.checksums_sha256 else None
