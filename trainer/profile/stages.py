"""The stages before a step, each by itself: reading, decoding, copying, augmenting.

Each takes a number of seconds, works at least once, and repeats the same images where there are few. What the stages
share with training is the code that does the work: the loaders' own decoders, `prepare_images`.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from pipeline.loaders.device_stream import DeviceStream
from pipeline.loaders.driven import STORED_FORMATS
from pipeline.loaders.stored import pixel_places
from pipeline.pack import Pack
from pipeline.prepare import prepare_images
from pipeline.tar_index import read_tar_index
from trainer.profile.measurements import Stage, StageName
from trainer.profile.page_cache import Piece, drop

NUM_SAMPLES = 2048
"""Images of the selection that reading and decoding are measured on, drawn at random."""

NUM_DECODED = 256
"""Of them, that are decoded again and again."""

SAMPLE_BYTES = 256 << 20
"""Limit of the same for large images."""


FEW_BATCHES = 8
"""That a loader must have given before it is judged, beside those that it reads ahead."""

PATIENCE_S = 10.0
"""After which a loader is judged by fewer."""

READERS = {"dali": 2, "reference": 1}
"""Threads that read in loaders that do not read by `loader.num_threads`."""


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
            shard_N, offset_N, num_bytes_N = index.shard_N.astype(np.int64), index.offset_N, index.num_bytes_N
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


def read_cold(samples: StoredSamples, *, num_threads: int, seconds: float) -> tuple[Stage, list[Piece]]:
    """Return how fast images come from the disk, each taken out of the page cache before; and those that were read.

    Args:
        samples: each is read once at most.
        num_threads: that read at the same time: as many as the loader has.
        seconds: after which no further images are read.
    """
    kept = 1 - drop(samples.pieces)
    note = f"{kept:.0%} of the images could not be taken out of the page cache" if kept > 0.1 else ""
    shares = [samples.pieces[number::num_threads] for number in range(num_threads)]
    stage, counts = _read(shares, seconds, note)
    pairs = zip(shares, counts, strict=True)
    return stage, [piece for share, count in pairs for piece in share[:count]]


def read_cached(pieces: list[Piece], *, num_threads: int, seconds: float) -> Stage:
    """Return how fast images come that were read a moment ago, again and again."""
    shares = [pieces[number::num_threads] or pieces for number in range(num_threads)]
    return _read([cycle(share) for share in shares], seconds)[0]


def _read(shares: Sequence[Iterable[Piece]], seconds: float, note: str = "") -> tuple[Stage, list[int]]:
    """Let a thread read each share until the time is over; return also how many each read."""
    watch = Watch()

    def work(share: Iterable[Piece]) -> tuple[int, int]:
        num_images = num_bytes = 0
        for piece in share:
            num_bytes += len(os.pread(piece.file, piece.num_bytes, piece.offset))
            num_images += 1
            if watch.elapsed_s > seconds:
                break
        return num_images, num_bytes

    with ThreadPoolExecutor(len(shares)) as pool:
        counts = list(pool.map(work, shares))
        stage = watch.stage(sum(count for count, _ in counts), num_bytes=sum(size for _, size in counts), note=note)
    return stage, [count for count, _ in counts]


def decode(samples: StoredSamples, config: LoaderConfig, device: torch.device, seconds: float) -> Stage | None:
    """Return how fast images that lie in memory are decoded by the loader's own decoder; None where nothing is."""
    if samples.pack.format in STORED_FORMATS or not samples.pieces:
        return None
    files: list[tuple[int, bytes]] = []
    reading = Watch()
    for index, piece in zip(samples.sample_index_n.tolist(), samples.pieces, strict=True):
        files.append((index, os.pread(piece.file, piece.num_bytes, piece.offset)))
        if len(files) == NUM_DECODED or reading.elapsed_s > seconds:
            break
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
    """Return how fast a loader sends batches from pinned memory to a GPU; None where there is none."""
    if device.type != "cuda":
        return None
    shape = (batch_size, 1, pack.height_px, pack.width_px)
    images_B1HW = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
    batch = Batch(images_B1HW, torch.arange(batch_size))
    stream = DeviceStream(device)
    return repeated(lambda: stream.send(batch), batch_size, device, seconds, num_bytes=images_B1HW.numel())


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


def load(loader: Loader, device: torch.device, seconds: float, *, prefetch: int) -> Stage:
    """Return how fast a loader fills batches for somebody who does nothing with them.

    Of an epoch that is longer than the time, after the batches that lay ready when the first one came; of shorter
    epochs, whole. A few batches are waited for, however slow they are.

    Args:
        loader: as training has it.
        device: where its batches go.
        seconds: about as long.
        prefetch: `loader.prefetch`.
    """
    watch, num_images, num_batches, epoch = Watch(device), 0, 0, 0
    patience_s = max(5 * seconds, PATIENCE_S)
    while True:
        steady: Watch | None = None
        num_steady = 0
        with closing(loader.train_batches(epoch)) as batches:
            for number, loaded in enumerate(batches, start=1):
                num_rows = len(loaded.batch.sample_index_B)
                num_images, num_batches = num_images + num_rows, num_batches + 1
                if steady is not None:
                    num_steady += num_rows
                elif number == prefetch:
                    steady = Watch(device)
                is_enough = num_batches >= prefetch + FEW_BATCHES or watch.elapsed_s > patience_s
                if watch.elapsed_s > seconds and is_enough:
                    if epoch == 0 and steady is not None and num_steady:
                        return steady.stage(num_steady)
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
            num_readers = READERS.get(config.backend, config.num_threads)
            stages["disk"], pieces = read_cold(samples, num_threads=num_readers, seconds=seconds)
            stages["page cache"] = read_cached(pieces, num_threads=num_readers, seconds=seconds)
            decoded = decode(samples, config, device, seconds)
            if decoded is not None:
                stages["decode"] = decoded
            stages["gather"] = gather(pack, config, seconds)
        return stages, samples.mean_bytes
