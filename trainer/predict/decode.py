"""Image files as a pack would hold them: the packing code packs a few at a time, and what it packed is read again.

So their pixels are those of a pack to the bit, a JPEG's losses included, and a decoder that crashes, a file that is
damaged or a process that dies are met as in packing. Chunks lie in a temporary folder until they are read:

::

    processes   chunk 0   chunk 1   chunk 2 ...      each takes the next chunk when it is free
    thread      waits for them, reads a chunk back   at most two are ready and not yet asked for
    consumer    the model, chunk by chunk, in any order

Shapes: n images of a chunk, H x W px.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from manifests.errors import ConfigError
from pipeline.encoding import Encoding
from pipeline.loaders.prefetch import Prefetcher
from pipeline.loaders.reference import SampleReader
from pipeline.pack import Pack, Shard, files_of
from pipeline.packing.formats import FORMATS
from pipeline.packing.shard import PackedShard, RejectedImage, ShardTask
from pipeline.packing.workers import pack_shards
from trainer.preprocessing import Preprocessing

NUM_READY = 2
"""Chunks that may wait for the model."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some of the files, decoded."""

    num_files: int
    """Files of the chunk, rejected ones included."""

    position_n: npt.NDArray[np.int64]
    """Which of all files each image is."""

    images_nHW: npt.NDArray[np.uint8]
    """Their pixels, as a loader hands out those of a pack."""

    rejected: tuple[RejectedImage, ...]
    """The others; their `sample_index` is the position among all files."""


def decoded_chunks(
    files: Sequence[Path], preprocessing: Preprocessing, *, chunk_size: int, num_workers: int
) -> Generator[Chunk, None, None]:
    """Yield all files, `chunk_size` at a time, in whichever order the chunks are done.

    Which files are in a chunk together depends on nothing but their order. Closing the generator ends the processes.

    Args:
        files: what is decoded.
        preprocessing: as which pack.
        chunk_size: files of a chunk; their pixels are what is held in memory, for a few chunks.
        num_workers: processes that decode; 1: this one.

    Raises:
        ConfigError: the temporary folder cannot be written.
        WorkerDiedError: a process was killed.
    """
    # A beton stores what a raw shard does.
    stored = preprocessing if preprocessing.format != "beton" else replace(preprocessing, format="raw")
    encoding = Encoding() if stored.format == "raw" else replace(stored.encoding, targets=None)
    stored = replace(stored, encoding=encoding)
    starts = range(0, len(files), chunk_size)
    with TemporaryDirectory(prefix="cxr-predict-") as name:
        folder = Path(name)
        tasks = (_task(folder, start, tuple(files[start : start + chunk_size]), stored) for start in starts)
        with closing(pack_shards(tasks, len(starts), num_workers, lambda done: None)) as packed:

            def next_chunk(_: int) -> Chunk | None:
                shard = next(packed, None)
                return None if shard is None else _read(folder, shard, stored)

            ready = Prefetcher(next_chunk, count(), num_threads=1, depth=NUM_READY, name="predict-decode")
            with closing(ready):
                try:
                    while (chunk := next(ready)) is not None:
                        yield chunk
                except OSError as error:
                    raise ConfigError(
                        f"{folder}: cannot be written ({error.strerror or error}); name a folder with space in TMPDIR"
                    ) from error


def _task(folder: Path, first: int, files: tuple[Path, ...], preprocessing: Preprocessing) -> ShardTask:
    """Return the work of one chunk."""
    file = folder / FORMATS[preprocessing.format].file_name(first)
    return ShardTask(
        file=file,
        checksums=file.with_suffix(".checksums"),
        sidecar=file.with_suffix(".json"),
        format=preprocessing.format,
        spec=preprocessing.spec,
        encoding=preprocessing.encoding,
        first_index=first,
        files=files,
    )


def _read(folder: Path, packed: PackedShard, preprocessing: Preprocessing) -> Chunk:
    """Return what was packed of a chunk, and remove its files."""
    rejected = tuple(image.sample_index for image in packed.rejected)
    shard = Shard(
        file=packed.file,
        first_index=packed.first_index,
        num_samples=packed.num_samples,
        num_bytes=packed.num_bytes,
        checksum=packed.checksum,
        side_files=packed.side_files,
    )
    pack = Pack(
        folder=folder,
        format=preprocessing.format,
        spec=preprocessing.spec,
        encoding=preprocessing.encoding,
        pixel_rule=preprocessing.pixel_rule,
        dataset="",
        identity="",
        num_samples=packed.first_index + packed.num_samples,
        rejected=rejected,
        shards=(shard,),
        manifest_sha256="",
        rejected_sha256="",
    )
    own_n = range(packed.first_index, packed.first_index + packed.num_samples)
    position_n = np.array([index for index in own_n if index not in set(rejected)], np.int64)
    images_nHW = np.empty((len(position_n), pack.height_px, pack.width_px), np.uint8)
    samples = SampleReader(pack)
    for row, position in enumerate(position_n.tolist()):
        images_nHW[row] = samples.read(position)
    for part in files_of(pack.shards):
        (folder / part.file).unlink()
    for suffix in (".checksums", ".json"):
        (folder / packed.file).with_suffix(suffix).unlink()
    return Chunk(num_files=packed.num_samples, position_n=position_n, images_nHW=images_nHW, rejected=packed.rejected)
