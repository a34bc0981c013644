"""Packing one shard: its bytes are a function of its image files and the size; whoever runs it, and how often."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from manifests.atomic import atomic_path, write_bytes_atomically
from pipeline.encoding import Encoding
from pipeline.image_spec import ImageSpec
from pipeline.pack_files import SideFile
from pipeline.pack_format import PackFormat
from pipeline.packing.formats import shard_format
from pipeline.packing.pixels import read_image
from pipeline.packing.rejection import Rejection
from pipeline.packing.shard_format import ShardLayout


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """All that a process must know to pack one shard."""

    file: Path
    """Where the shard appears when it is whole."""

    sidecar: Path
    """Where its `PackedShard` appears after it: a shard without one is not finished."""

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


@dataclass(frozen=True, kw_only=True)
class RejectedImage:
    """A sample without pixels."""

    sample_index: int
    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class PackedShard:
    """What became of a `ShardTask`; kept as JSON beside the shard until the pack is complete."""

    file: str
    first_index: int
    num_samples: int
    num_bytes: int
    sha256: str
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
class Failure:
    """Why a shard could not be packed, as a process tells its parent.

    Not in the module that such a process runs, whose classes would be pickled as those of `__main__`.
    """

    error: OSError | None
    """What the operating system said when the shard was written; None where the fault is ours."""

    trace: str
    """The traceback, for faults that are ours."""


class HashingSink:
    """Counts and hashes what passes on its way into a file."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.num_bytes = 0
        self.sha256 = hashlib.sha256()

    def write(self, content: bytes | memoryview, /) -> int:
        """Append `content`; return how many bytes that were."""
        num_bytes = self.file.write(content)
        self.num_bytes += num_bytes
        self.sha256.update(content)
        return num_bytes


def pack_shard(task: ShardTask, on_image: Callable[[], None]) -> PackedShard:
    """Decode, resize and write the images of one shard; return its checksum and its rejected images.

    The file appears whole, flushed and renamed, or not at all; then its sidecar does. `on_image` is called after each.

    Raises:
        OSError: the shard cannot be written. What cannot be read is a rejected image instead.
    """
    rejected = []
    layout = ShardLayout(spec=task.spec, encoding=task.encoding, num_samples=len(task.files))
    with atomic_path(task.file) as temporary, temporary.open("wb") as file:
        sink = HashingSink(file)
        writer = shard_format(task.format).writer(sink, layout, task.first_index)
        for sample_index, path in enumerate(task.files, start=task.first_index):
            try:
                image = read_image(path, task.spec)
            except Rejection as rejection:
                image = None
                rejected.append(
                    RejectedImage(sample_index=sample_index, reason=rejection.reason.value, detail=rejection.detail)
                )
            writer.add(sample_index, image, None)
            on_image()
        side_contents = writer.close()
    side_files = []
    for suffix, content in side_contents.items():
        path = task.file.with_suffix(suffix)
        write_bytes_atomically(path, content)
        side_files.append(SideFile(file=path.name, num_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()))
    packed = PackedShard(
        file=task.file.name,
        first_index=task.first_index,
        num_samples=len(task.files),
        num_bytes=sink.num_bytes,
        sha256=sink.sha256.hexdigest(),
        side_files=tuple(side_files),
        rejected=tuple(rejected),
    )
    write_bytes_atomically(task.sidecar, packed.to_json())
    return packed
