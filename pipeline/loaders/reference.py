"""`reference`: one sample after the other with plain file reads; slow, obviously right, the oracle of the others."""

import io
import tarfile
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from pipeline.batch import Batch
from pipeline.errors import PackError
from pipeline.loaders.contract import Batches, Feed, LoadedStep
from pipeline.loaders.corrupt import SKIPPED, CorruptSamples
from pipeline.loaders.damage import cut_short, repair, unreadable
from pipeline.loaders.driven import DrivenLoader
from pipeline.loaders.sample_checksums import checksums_of
from pipeline.loaders.stored import image_offsets
from pipeline.order import OrderStep
from pipeline.pack import Pack, Shard

Image = npt.NDArray[np.uint8]
Extent = tuple[int, int]


class DamagedSampleError(Exception):
    """The bytes of a sample in a tar pack are not what was packed, or not an image of the pack's size."""


class ReferenceLoader(DrivenLoader):
    """Opens the shard of every single sample, reads its pixels or decodes its image with Pillow, and closes it."""

    def __init__(self, feed: Feed) -> None:
        super().__init__(feed)
        self._samples = SampleReader(feed.pack, verify=feed.config.verify)
        self._corrupt = CorruptSamples(feed.pack, feed.config.on_corrupt)

    @property
    def skipped_samples(self) -> tuple[int, ...]:
        """sample_index of the samples that could not be decoded and were skipped so far, ascending."""
        return self._corrupt.sample_indices

    def _read(self, steps: Iterator[OrderStep]) -> Batches:
        pack, device = self.feed.pack, self.feed.device
        for step in steps:
            index_B = self.indices_of(step)
            images_B1HW = np.zeros((len(index_B), 1, pack.height_px, pack.width_px), np.uint8)
            for row, sample_index in enumerate(index_B.tolist()):
                try:
                    images_B1HW[row, 0] = self._samples.read(sample_index)
                except DamagedSampleError as error:
                    self._corrupt.add(sample_index, str(error))
                    index_B[row] = SKIPPED
            batch = Batch(torch.from_numpy(images_B1HW).to(device), torch.from_numpy(index_B).to(device))
            yield LoadedStep(batch, step.consumed, step.num_global)


class SampleReader:
    """Reads one sample at a time; what it remembers is where samples lie, never a file or a pixel."""

    def __init__(self, pack: Pack, *, verify: bool = False) -> None:
        """Read from `pack`; with `verify` the checksum of a sample in a tar is compared whenever it is read."""
        self._pack = pack
        self._checksums = checksums_of(pack) if verify and pack.format == "tar" else None
        self._places: dict[str, dict[int, Extent]] = {}

    def read(self, sample_index: int) -> Image:
        """Return the pixels of one sample: uint8 [H, W], zeros where its image was rejected.

        Raises:
            PackError: no shard holds it, or its shard cannot be read.
            DamagedSampleError: its bytes in a tar are not what was packed, or no image of the pack's size.
        """
        pack = self._pack
        shard = next((s for s in pack.shards if s.first_index <= sample_index < s.first_index + s.num_samples), None)
        if shard is None:
            raise PackError(f"{pack.folder}: no shard holds sample_index {sample_index}")
        path = pack.shard_path(shard)
        if shard.file not in self._places:
            self._places[shard.file] = tar_places(pack, shard) if pack.format == "tar" else stored_places(pack, shard)
        place = self._places[shard.file].get(sample_index)
        if place is None:
            if sample_index in pack.rejected:
                return np.zeros((pack.height_px, pack.width_px), np.uint8)
            raise PackError(f"{path}: holds no image of sample_index {sample_index}; {repair(pack)}")
        if self._checksums is not None:
            own = int(self._checksums.offset_N[sample_index]), int(self._checksums.num_bytes_N[sample_index])
            problem = self._checksums.problem(sample_index, read_bytes(pack, shard, own))
            if problem is not None:
                raise DamagedSampleError(problem)
        content = read_bytes(pack, shard, place)
        if pack.format == "tar":
            return decoded(content, pack)
        return np.frombuffer(content, np.uint8).reshape(pack.height_px, pack.width_px)


def read_bytes(pack: Pack, shard: Shard, place: Extent) -> bytes:
    """Return a piece of a shard, opened for this piece alone.

    Raises:
        PackError: it cannot be read, or is cut short.
    """
    path = pack.shard_path(shard)
    offset, num_bytes = place
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read(num_bytes)
    except OSError as error:
        raise unreadable(path, pack, error) from error
    if len(content) != num_bytes:
        raise cut_short(path, pack, shard, path.stat().st_size)
    return content


def read_sample(pack: Pack, sample_index: int) -> Image:
    """Return the pixels of one sample: uint8 [H, W]; raises what `SampleReader.read` does."""
    return SampleReader(pack).read(sample_index)


def stored_places(pack: Pack, shard: Shard) -> dict[int, Extent]:
    """Return sample_index -> offset and bytes of its pixels, in a shard that stores them as they are."""
    offsets = image_offsets(pack, shard).tolist()
    return {shard.first_index + row: (offset, pack.spec.num_pixels) for row, offset in enumerate(offsets)}


def tar_places(pack: Pack, shard: Shard) -> dict[int, Extent]:
    """Return sample_index -> offset and bytes of its file, by the headers of the tar, not by its index file.

    Raises:
        PackError: it is no tar.
    """
    path = pack.shard_path(shard)
    places = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                number, _, extension = member.name.partition(".")
                if extension == pack.encoding.image:
                    places[int(number)] = (member.offset_data, member.size)
    except (OSError, ValueError, tarfile.TarError) as error:
        raise PackError(f"{path}: not a tar shard ({error}); {repair(pack)}") from error
    return places


def decoded(content: bytes, pack: Pack) -> Image:
    """Return the pixels of a file: uint8 [H, W]; of 16 bits the high eight.

    Raises:
        DamagedSampleError: not an image of the pack's size and depth.
    """
    from PIL import Image as PillowImage  # a machine that only trains from other formats does not need it

    try:
        with PillowImage.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            pixels_HW = np.asarray(image)
    except Exception as error:  # a damaged image makes Pillow raise what it likes
        raise DamagedSampleError(f"cannot be decoded ({error})") from error
    spec = pack.spec
    if pixels_HW.shape != (spec.height_px, spec.width_px) or pixels_HW.dtype.itemsize * 8 != spec.bits:
        raise DamagedSampleError(
            f"cannot be decoded (it is {pixels_HW.dtype} {pixels_HW.shape}, expected {spec.bits} bits of "
            f"{(spec.height_px, spec.width_px)})"
        )
    return pixels_HW if spec.bits == 8 else (pixels_HW >> 8).astype(np.uint8)
