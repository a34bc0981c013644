"""What a format must do to be written shard by shard."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.encoding import Encoding as Encoding
from pipeline.image_spec import ImageSpec
from pipeline.packing.decoded import DecodedImage


class Sink(Protocol):
    """Where the bytes of a shard go."""

    def write(self, content: bytes | memoryview, /) -> int:
        """Append `content`; return how many bytes that were."""


@dataclass(frozen=True, kw_only=True)
class ShardLayout:
    """What decides the form of a shard, whatever its pixels are."""

    spec: ImageSpec
    """What every image is."""

    encoding: Encoding
    """How the format stores it."""

    num_samples: int
    """Samples of this shard, rejected ones included."""

    num_targets: int = 0
    """C, the length of each sample's targets; 0 without `Encoding.targets`."""


class ShardWriter(Protocol):
    """Takes the samples of one shard in order of their sample_index."""

    def add(self, sample_index: int, image: DecodedImage | None, targets_C: np.ndarray | None) -> None:
        """Append a sample; None is a rejected image, `targets_C` is float32 [C] where the encoding has targets.

        Everything that belongs to the sample alone is written before this returns: what it wrote gets the sample's
        checksum.
        """

    def close(self) -> dict[str, bytes]:
        """Append what comes after the last sample; return the shard's small side files: suffix -> content."""


class Joiner(Protocol):
    """Makes one file of all shards of a pack, for formats that know no shards."""

    file_name: str
    """Name of the joined file in the pack's folder."""

    def join(self, parts: Sequence[Path], sink: Sink, layout: ShardLayout) -> Sequence[int]:
        """Write the joined file; return where in it each part begins, for every part lies in it byte for byte.

        Args:
            parts: files of all shards, in order of sample_index.
            sink: takes the bytes of the joined file.
            layout: that of the whole pack, `num_samples` of all shards.
        """


class ShardFormat(Protocol):
    """How a format cuts a pack into shards, writes one and looks it over; holds no state."""

    joined: Joiner | None
    """How finished shards become one file; None where they are the pack."""

    def samples_per_shard(self, num_samples: int, spec: ImageSpec, encoding: Encoding) -> int:
        """Return how many samples a shard holds; the last one may hold fewer. It never depends on the machine."""

    def file_name(self, number: int) -> str:
        """Return the name of the file of shard `number`."""

    def known_bytes(self, layout: ShardLayout) -> int:
        """Return what a shard takes at least, known before any image is decoded; 0 where it is not."""

    def writer(self, sink: Sink, layout: ShardLayout, first_index: int) -> ShardWriter:
        """Begin a shard of exactly `layout.num_samples` samples, the first of them `first_index`."""

    def problems(self, path: Path, layout: ShardLayout, first_index: int, rejected: Collection[int]) -> list[str]:
        """Return what is wrong inside a shard (or the joined file); `rejected` are sample_index values within it."""
