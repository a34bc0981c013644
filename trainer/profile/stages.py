"""The stages before a step, each by itself: reading, decoding, copying, augmenting.

Each takes a number of seconds, works at least once, and repeats the same images where there are few. What the stages
share with training is the code that does the work: the loaders' own decoders, `prepare_images`.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import cycle, islice

import numpy as np
import numpy.typing as npt
import torch

from pipeline.augment import AugmentConfig, augment_params
from pipeline.batch import Batch
from pipeline.loaders import Loader, LoaderConfig
from pipeline.loaders import reference as reference_loader
from pipeline.loaders.driven import STORED_FORMATS
from pipeline.loaders.stored import pixel_places
from pipeline.pack import Pack
from pipeline.prepare import prepare_images
from pipeline.tar_index import read_tar_index
from trainer.profile.measurements import Stage, StageName
from trainer.profile.page_cache import Piece, drop

NUM_SAMPLES = 2048
"""Images of the selection that reading and decoding are measured on, drawn at random."""

SAMPLE_BYTES = 256 << 20
"""Limit of the same for large images."""


class Watch:
    """Wall and core seconds since it was made; on a GPU, what was asked of it is waited for."""

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device
        self._begin = self._now()

    def stage(self, num_images: int, *, num_bytes: int = 0, note: str = "") -> Stage:
        """Return what happened since."""
        wall_s, core_s = (now - then for now, then in zip(self._now(), self._begin, strict=True))
        return Stage(num_images=num_images, wall_s=max(wall_s, 1e-9), core_s=core_s, num_bytes=num_bytes, note=note)

    @property
    def elapsed_s(self) -> float:
        """Wall seconds, without waiting for anybody."""
        return time.perf_counter() - self._begin[0]

    def _now(self) -> tuple[float, float]:
        if self._device is not None and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter(), time.process_time()


class StoredSamples:
    """Some images of a pack as they lie on the disk."""

    def __init__(self, stack: ExitStack, pack: Pack, sample_index_n: npt.NDArray[np.int64]) -> None:
        """Open the shards; the stack closes them.

        Args:
            stack: of the caller.
            pack: whose images.
            sample_index_n: int64 [n], of which some are drawn, the same ones each time.
        """
        if pack.format == "tar":
            index = read_tar_index(pack)
            shard_N, offset_N, num_bytes_N = index.shard_N, index.offset_N, index.num_bytes_N
        else:
            shard_N, offset_N = pixel_places(pack)
            num_bytes_N = np.full(pack.num_samples, pack.spec.num_pixels, np.int64)
        self.pack = pack
        self.mean_bytes = float(num_bytes_N[sample_index_n].mean())
        """Of an image of the selection."""
        most = max(1, min(NUM_SAMPLES, int(SAMPLE_BYTES / max(self.mean_bytes, 1))))
        drawn = np.random.default_rng(0).permutation(sample_index_n)[:most]
        self.sample_index_n = drawn[num_bytes_N[drawn] > 0]
        files = []
        for shard in pack.shards:
            files.append(os.open(pack.shard_path(shard), os.O_RDONLY | os.O_CLOEXEC))
            stack.callback(os.close, files[-1])
        self.pieces = [
            Piece(files[shard_N[index]], int(offset_N[index]), int(num_bytes_N[index])) for index in self.sample_index_n
        ]


def read(samples: StoredSamples, *, num_threads: int, seconds: float, cold: bool) -> Stage:
    """Return how fast images are read, by as many threads as the loader has.

    Args:
        samples: which.
        num_threads: that read at the same time.
        seconds: after which no further images are read.
        cold: whether each is taken out of the page cache before, and read once; else they are read until the time is
            over, from the page cache.
    """
    note = ""
    if cold:
        share = drop(samples.pieces)
        if share < 0.9:
            note = f"{1 - share:.0%} of the images could not be taken out of the page cache"
    else:
        for piece in samples.pieces:
            os.pread(piece.file, piece.num_bytes, piece.offset)
    some = max(1, min(64, len(samples.pieces) // (2 * num_threads)))
    groups = [samples.pieces[first : first + some] for first in range(0, len(samples.pieces), some)]
    with ThreadPoolExecutor(num_threads) as pool:
        watch = Watch()
        counts = list(pool.map(lambda group: _read_group(group, watch, seconds), groups if cold else [groups[0]]))
        while not cold and watch.elapsed_s < seconds:
            counts += pool.map(lambda group: _read_group(group, watch, seconds), groups)
        num_images, num_bytes = (sum(column) for column in zip(*counts, strict=True))
        return watch.stage(num_images, num_bytes=num_bytes, note=note)


def _read_group(pieces: list[Piece], watch: Watch, seconds: float) -> tuple[int, int]:
    """Read some images; return how many, and their bytes; none where the time is over."""
    if watch.elapsed_s > seconds:
        return 0, 0
    return len(pieces), sum(len(os.pread(piece.file, piece.num_bytes, piece.offset)) for piece in pieces)


def decode(samples: StoredSamples, config: LoaderConfig, device: torch.device, seconds: float) -> Stage | None:
    """Return how fast images that lie in memory are decoded by the loader's own decoder; None where nothing is."""
    if samples.pack.format in STORED_FORMATS or not samples.pieces:
        return None
    pieces = list(zip(samples.sample_index_n.tolist(), samples.pieces, strict=True))[:256]
    files = [(index, os.pread(piece.file, piece.num_bytes, piece.offset)) for index, piece in pieces]
    if config.backend == "dali":
        return _decode_by_dali(samples.pack, files, config, device, seconds)
    watch, num_images = Watch(), 0
    for _, content in cycle(files):
        reference_loader.decoded(content, samples.pack)
        num_images += 1
        if watch.elapsed_s > seconds:
            break
    return watch.stage(num_images)


def _decode_by_dali(
    pack: Pack, files: list[tuple[int, bytes]], config: LoaderConfig, device: torch.device, seconds: float
) -> Stage:
    from pipeline.loaders.dali_pipeline import DecodingPipeline, Files  # DALI is not installed everywhere

    batch_size = min(config.batch_size, len(files))
    pipeline = DecodingPipeline(
        pack.spec, max_batch_size=batch_size, num_threads=config.num_threads, depth=config.prefetch, device=device
    )
    begun = time.perf_counter()

    def batches() -> Iterator[Files]:
        endless = cycle(files)
        while time.perf_counter() - begun < seconds:
            some = list(islice(endless, batch_size))
            yield Files(
                [np.frombuffer(content, np.uint8) for _, content in some],
                np.array([index for index, _ in some], np.int64),
            )

    try:
        with closing(pipeline.run(batches())) as decoded:
            next(decoded, None)  # builds its threads and buffers
            watch = Watch(device)
            num_images = sum(len(images.images_G1HW) for images in decoded)
            return watch.stage(max(num_images, 1))
    finally:
        pipeline.close()


def gather(pack: Pack, config: LoaderConfig, seconds: float) -> Stage:
    """Return how fast images that lie in memory as they are, in any order, become batches: what `raw` does."""
    num_rows = max(2, min(NUM_SAMPLES, SAMPLE_BYTES // pack.spec.num_pixels))
    images_NR = np.zeros((num_rows, pack.spec.num_pixels), np.uint8)
    images_NR[:] = np.arange(num_rows, dtype=np.uint8)[:, None]  # its pages exist
    draw = np.random.default_rng(0)

    def one_batch(rows_B: npt.NDArray[np.int64]) -> int:
        np.take(images_NR, rows_B, axis=0, mode="clip")
        return len(rows_B)

    size = max(config.batch_size, min(256, num_rows))
    with ThreadPoolExecutor(config.num_threads) as pool:
        list(pool.map(one_batch, [draw.integers(0, num_rows, size)]))
        watch, num_images = Watch(), 0
        while True:
            batches = [draw.integers(0, num_rows, size) for _ in range(4 * config.num_threads)]
            num_images += sum(pool.map(one_batch, batches))
            if watch.elapsed_s > seconds:
                return watch.stage(num_images, num_bytes=num_images * pack.spec.num_pixels)


def copy_to_device(pack: Pack, batch_size: int, device: torch.device, seconds: float) -> Stage | None:
    """Return how fast batches go from pinned memory to a GPU; None where there is none."""
    if device.type != "cuda":
        return None
    shape = (batch_size, 1, pack.height_px, pack.width_px)
    images_B1HW = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
    return repeated(
        lambda: images_B1HW.to(device, non_blocking=True), batch_size, device, seconds, num_bytes=images_B1HW.numel()
    )


def prepare(
    batch: Batch, config: AugmentConfig | None, *, out_size_px: int, device: torch.device, seconds: float
) -> Stage:
    """Return how fast a batch becomes what the network sees, augmented or (None) normalised only."""
    num_images = len(batch.images_B1HW)

    def work() -> None:
        index_B = np.arange(num_images, dtype=np.int64)
        params = None if config is None else augment_params(0, 0, index_B, config)
        prepare_images(batch.images_B1HW, params, out_size_px)

    return repeated(work, num_images, device, seconds)


def repeated(
    work: Callable[[], object], num_images: int, device: torch.device, seconds: float, *, num_bytes: int = 0
) -> Stage:
    """Return how fast `work`, which does `num_images` at a time, goes; its first time warms up."""
    work()
    watch, times = Watch(device), 0
    while True:
        work()
        times += 1
        if times % 8 == 0 or device.type == "cpu":  # the host must not run far ahead of a GPU
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if watch.elapsed_s > seconds:
                return watch.stage(times * num_images, num_bytes=times * num_bytes)


def load(loader: Loader, device: torch.device, seconds: float) -> Stage:
    """Return how fast a loader fills batches for somebody who does nothing with them.

    Of an epoch that is longer than the time, from its first batch on; of shorter ones, whole.
    """
    watch, num_images, epoch = Watch(device), 0, 0
    while True:
        after_first: Watch | None = None
        num_after_first = 0
        with closing(loader.train_batches(epoch)) as batches:
            for loaded in batches:
                num_rows = len(loaded.batch.sample_index_B)
                num_images += num_rows
                if after_first is None:
                    after_first = Watch(device)
                else:
                    num_after_first += num_rows
                if watch.elapsed_s > seconds:
                    if epoch == 0 and num_after_first:
                        return after_first.stage(num_after_first)
                    return watch.stage(num_images)
        epoch += 1


def storage_stages(
    pack: Pack,
    sample_index_n: npt.NDArray[np.int64],
    config: LoaderConfig,
    device: torch.device,
    seconds: float,
) -> tuple[dict[StageName, Stage], float]:
    """Return the stages that need no network, and the mean bytes of an image on the disk.

    The disk comes first: pages that a loader has mapped cannot be taken out of the page cache.
    """
    stages: dict[StageName, Stage] = {}
    with ExitStack() as stack:
        samples = StoredSamples(stack, pack, sample_index_n)
        if config.backend != "synthetic" and samples.pieces:
            stages["disk"] = read(samples, num_threads=config.num_threads, seconds=seconds, cold=True)
            stages["page cache"] = read(samples, num_threads=config.num_threads, seconds=seconds, cold=False)
            decoded = decode(samples, config, device, seconds)
            if decoded is not None:
                stages["decode"] = decoded
            stages["gather"] = gather(pack, config, seconds)
        return stages, samples.mean_bytes
