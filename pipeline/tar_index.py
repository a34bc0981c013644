"""Where each image of a `tar` pack lies, for loaders that read any sample by its sample_index."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import PackError
from pipeline.pack import Pack
from pipeline.tar_shard import INDEX_SUFFIX, read_shard_index


@dataclass(frozen=True, kw_only=True)
class TarIndex:
    """Where the encoded image of each sample of a pack lies; row = sample_index."""

    files: tuple[Path, ...]
    """The shards."""

    shard_N: npt.NDArray[np.int32]
    """Position in `files` of the sample's shard."""

    offset_N: npt.NDArray[np.int64]
    """Where the image begins, in bytes from the start of its shard; 0 for a rejected sample."""

    num_bytes_N: npt.NDArray[np.int64]
    """Bytes of the encoded image; 0 for a rejected sample."""


def read_tar_index(pack: Pack) -> TarIndex:
    """Return where every image of a `tar` pack lies, by its index files; the tars are not opened.

    Raises:
        PackError: an index is missing or damaged, or does not fit pack.json.
    """
    offset_N, num_bytes_N = np.zeros((2, pack.num_samples), np.int64)
    for shard in pack.shards:
        rows = slice(shard.first_index, shard.first_index + shard.num_samples)
        path = pack.shard_path(shard).with_suffix(INDEX_SUFFIX)
        checksums = [side_file.sha256 for side_file in shard.side_files if side_file.file == path.name]
        try:
            content = path.read_bytes()
            if [hashlib.sha256(content).hexdigest()] != checksums:
                raise ValueError("its checksum is not that of pack.json")
            offset_N[rows], num_bytes_N[rows] = read_shard_index(content, shard, pack.encoding.image)
        except (OSError, ValueError) as error:
            raise PackError(f"{path}: not the index of {shard.file} ({error}); {_repair(pack)}") from error
    absent = tuple(np.flatnonzero(num_bytes_N == 0).tolist())
    if absent != pack.rejected:
        wrong = min(set(absent) ^ set(pack.rejected))
        found = "none, pack.json expects one" if wrong in absent else "one, pack.json says it is rejected"
        raise PackError(f"{pack.folder}: image of sample_index {wrong}: its index has {found}; {_repair(pack)}")
    return TarIndex(
        files=tuple(map(pack.shard_path, pack.shards)),
        shard_N=np.repeat(np.arange(len(pack.shards), dtype=np.int32), [shard.num_samples for shard in pack.shards]),
        offset_N=offset_N,
        num_bytes_N=num_bytes_N,
    )


def _repair(pack: Pack) -> str:
    return f"run `cxr-prep verify {pack.folder}`, then pack again"
