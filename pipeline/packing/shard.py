"""Packing one shard: its bytes are a function of its files and the pack's spec; whoever runs it, and how often."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from manifests.atomic import atomic_path, fsync_file, temporary_path, write_bytes_atomically
from pipeline.encoding import Encoding
from pipeline.image_spec import ImageSpec
from pipeline.pack_files import SideFile
from pipeline.pack_format import PackFormat
from pipeline.packing.checksums import HashingSink, SampleChecksums
from pipeline.packing.formats import FORMATS
from pipeline.packing.heap import keep_freed_memory
from pipeline.packing.pixels import read_image
from pipeline.packing.rejection import Rejection
from pipeline.packing.shard_format import ShardLayout
from pipeline.packing.writeback import reserve


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """All that a process must know to pack one shard."""

    file: Path
    """Where the shard appears when it is whole."""

    checksums: Path
    """Where the checksums of its samples appear after it: rows of `checksums.ROW`."""

    sidecar: Path
    """Where its `PackedShard` appears after both: a shard without one is not finished."""

    format: PackFormat
    """Name of the pack's format."""

    spec: ImageSpec
    """What every image becomes."""

    encoding: Encoding
    """How the format stores it."""

    first_index: int
    """sample_index of the first sample."""

    files: tuple[Path, ...]
    """Image files, in order of sample_index."""

    targets_nC: np.ndarray | None = None
    """float32 [n, C] where the encoding has targets."""

    @property
    def layout(self) -> ShardLayout:
        """What decides the form of the shard."""
        num_targets = 0 if self.targets_nC is None else self.targets_nC.shape[1]
        return ShardLayout(spec=self.spec, encoding=self.encoding, num_samples=len(self.files), num_targets=num_targets)


@dataclass(frozen=True, kw_only=True)
class RejectedImage:
    """A sample without pixels."""

    sample_index: int
    reason: str
    num_bytes: int | None
    detail: str


@dataclass(frozen=True, kw_only=True)
class PackedShard:
    """What became of a `ShardTask`; kept as JSON beside the shard until the pack is complete."""

    file: str
    first_index: int
    num_samples: int
    num_bytes: int
    checksum: str
    checksums_sha256: str
    side_files: tuple[SideFile, ...]
    rejected: tuple[RejectedImage, ...]

    def to_json(self) -> bytes:
        """Return the bytes of the sidecar."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> "PackedShard":
        """Return what a sidecar says.

        Raises:
            ValueError, TypeError, KeyError: it is no such JSON.
        """
        fields = json.loads(content)
        rejected = tuple(RejectedImage(**image) for image in fields["rejected"])
        side_files = tuple(SideFile(**side_file) for side_file in fields["side_files"])
        return cls(**fields | {"rejected": rejected, "side_files": side_files})


@dataclass(frozen=True, kw_only=True)
class ImagesDone:
    """Progress within a shard, as a process tells its parent."""

    count: int
    """Images since the last report, rejected ones included."""

    rejected: tuple[tuple[int, str], ...] = ()
    """(sample_index, reason) of the rejected ones among them."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a shard could not be packed, as a process tells its parent.

    Not in the module that such a process runs, whose classes would be pickled as those of `__main__`.
    """

    error: OSError | None
    """What the operating system said when the shard was written; None where the fault is ours."""

    trace: str
    """The traceback, for faults that are ours."""


@dataclass(frozen=True, kw_only=True)
class WrittenShard:
    """A shard that is written and not yet flushed, as a process tells its parent; `finish_shard` makes it stay."""

    temporary: Path
    """Where its bytes are."""

    num_bytes: int
    checksum: str
    checksums: bytes
    """Rows of `checksums.ROW`."""

    side_contents: dict[str, bytes]
    """Suffix -> content of the small files beside it."""

    rejected: tuple[RejectedImage, ...]


def pack_shard(task: ShardTask, on_image: Callable[[RejectedImage | None], None]) -> PackedShard:
    """Decode, resize and write the images of one shard, and flush it; see `write_shard` and `finish_shard`.

    Raises:
        OSError: the shard cannot be written. What cannot be read is a rejected image instead.
    """
    return finish_shard(task, write_shard(task, on_image))


def write_shard(task: ShardTask, on_image: Callable[[RejectedImage | None], None]) -> WrittenShard:
    """Decode, resize and write the images of one shard into a temporary file, which the disk begins to take.

    `on_image` is called after each image, with what is wrong with it.

    Raises:
        OSError: the shard cannot be written. What cannot be read is a rejected image instead.
    """
    temporary = temporary_path(task.file)
    try:
        return _write_shard(task, temporary, on_image)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_shard(task: ShardTask, temporary: Path, on_image: Callable[[RejectedImage | None], None]) -> WrittenShard:
    keep_freed_memory()
    all_rejected = []
    with temporary.open("wb") as file:
        shard_format = FORMATS[task.format]
        reserve(file.fileno(), shard_format.known_bytes(task.layout))
        sink = HashingSink(file)
        writer = shard_format.writer(sink, task.layout, task.first_index)
        checksums = SampleChecksums(sink, len(task.files))
        for row, path in enumerate(task.files):
            image = rejected = None
            try:
                image = read_image(path, task.spec)
            except Rejection as rejection:
                rejected = rejected_image(task.first_index + row, path, rejection)
                all_rejected.append(rejected)
            checksums.begin()
            writer.add(task.first_index + row, image, None if task.targets_nC is None else task.targets_nC[row])
            checksums.end()
            on_image(rejected)
        side_contents = writer.close()
        sink.close()
    return WrittenShard(
        temporary=temporary,
        num_bytes=sink.num_bytes,
        checksum=str(sink.checksum),
        checksums=checksums.rows.tobytes(),
        side_contents=side_contents,
        rejected=tuple(all_rejected),
    )


def finish_shard(task: ShardTask, written: WrittenShard) -> PackedShard:
    """Flush a shard that was written, give it its name, and write down what belongs to it.

    The file appears whole, flushed and renamed, or not at all; then what belongs to it, and its sidecar last. Names,
    checksums and sidecar are not flushed: a power cut may cost them, then the shard is packed again.

    Raises:
        OSError: the disk did not take it.
    """
    with atomic_path(task.file, flush=False) as temporary:
        written.temporary.replace(temporary)
        fsync_file(temporary)
    packed = PackedShard(
        file=task.file.name,
        first_index=task.first_index,
        num_samples=len(task.files),
        num_bytes=written.num_bytes,
        checksum=written.checksum,
        checksums_sha256=hashlib.sha256(written.checksums).hexdigest(),
        side_files=tuple(write_side_file(task.file, *item) for item in written.side_contents.items()),
        rejected=written.rejected,
    )
    write_bytes_atomically(task.checksums, written.checksums, flush=False)
    write_bytes_atomically(task.sidecar, packed.to_json(), flush=False)
    return packed


def rejected_image(sample_index: int, path: Path, rejection: Rejection) -> RejectedImage:
    """Return what is noted about an image that has no pixels, the size of its file included."""
    num_bytes = None
    with suppress(OSError):
        num_bytes = path.stat().st_size if path.is_file() else None
    return RejectedImage(
        sample_index=sample_index, reason=rejection.reason.value, num_bytes=num_bytes, detail=rejection.detail
    )


def write_side_file(shard: Path, suffix: str, content: bytes) -> SideFile:
    """Write a small file that belongs to a shard."""
    path = shard.with_suffix(suffix)
    write_bytes_atomically(path, content)
    return SideFile(file=path.name, num_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
