"""Contenders of the loaders' benchmark that are ours: bare batches, preparation alone, and both together.

- ``bare np.take``: threads that gather random rows of one memory map, in an order made beforehand, into as many buffers
  of the same size as `raw` goes round in; no loader that uses such buffers can be faster on this machine;
- ``raw``, ``synthetic``, ``reference``: whole epochs of our loaders, order and indices included;
- ``augment_params``: drawing the parameters alone; ``resample``: a batch through one affine grid, the plain way;
  ``OpenCV nih``, ``OpenCV chexpert``: by OpenCV's warpAffine in threads;
  ``prepare nih``, ``prepare chexpert``: what training does to a batch, without and with rotation;
- ``raw + prepare nih``: what a training step gets: read, random resized crop, flip, normalise.
"""

import math
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pipeline.augment import AugmentConfig, augment_params
from pipeline.batch import Batch
from pipeline.encoding import Encoding
from pipeline.image_spec import ImageSpec
from pipeline.loaders import Loader, LoaderConfig, open_loader
from pipeline.loaders.raw import RawLoader
from pipeline.order import epoch_order
from pipeline.pack import Pack, Shard
from pipeline.prepare import prepare_images
from pipeline.resample_plain import resample
from tools.loader_peers import opencv_prepare

NUM_SHARDS = 64  # what `cxr-prep pack` makes of 112,120 images of 256 px
SEED = 0
PREPARE_IMAGES = 512
REFERENCE_STEPS = 2
WHOLE = "whole.npy"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to do the job."""

    name: str
    """What the table and the CSV call it."""

    run: Callable[[int], int]
    """Does one round, given its number, and returns how many images it did."""

    peer: str
    """The contender that the ratio is to."""


def opened(
    stack: ExitStack, backend: str, pack: Pack, *, batch_size: int, num_threads: int, device: str = "cpu"
) -> Loader:
    """Return a loader of the whole pack, closed with `stack`; checksums are not what is measured."""
    config = LoaderConfig(backend=backend, batch_size=batch_size, num_threads=num_threads, verify=False)
    index_n = np.arange(pack.num_samples)
    return stack.enter_context(open_loader(config, pack=pack, sample_index_n=index_n, seed=SEED, device=device))


def batch_contenders(
    stack: ExitStack, pack: Pack, *, batch_size: int, num_threads: int, out_size_px: int
) -> list[Contender]:
    """Return all contenders of one batch size over a pack that `write_pack` wrote."""
    raw, synthetic, reference = (
        opened(stack, backend, pack, batch_size=batch_size, num_threads=num_threads)
        for backend in ("raw", "synthetic", "reference")
    )
    assert isinstance(raw, RawLoader)
    num_places = raw.num_buffers * raw.steps_per_group
    rows_NR = np.load(pack.folder / WHOLE, mmap_mode="r").reshape(pack.num_samples, -1)
    take = bare_take(rows_NR, batch_size, num_threads, num_places)
    prepared = prepared_steps(raw, max(1, PREPARE_IMAGES // batch_size), out_size_px)
    return [
        Contender(name="bare np.take", run=take, peer="bare np.take"),
        Contender(name="raw", run=whole_epoch(raw), peer="bare np.take"),
        Contender(name="synthetic", run=whole_epoch(synthetic), peer="bare np.take"),
        Contender(name="reference", run=some_steps(reference, REFERENCE_STEPS), peer="raw"),
        *prepare_contenders(
            pack.height_px, out_size_px, batch_size, stack.enter_context(ThreadPoolExecutor(num_threads))
        ),
        Contender(name="raw + prepare nih", run=prepared, peer="prepare nih"),
    ]


def bare_take(
    rows_NR: npt.NDArray[np.uint8], batch_size: int, num_threads: int, num_places: int
) -> Callable[[int], int]:
    """Return a round of threads that do nothing but gather rows, in an order that costs nothing.

    Args:
        rows_NR: where they gather from.
        batch_size: rows of one `np.take`.
        num_threads: how many gather.
        num_places: batches that the buffers of all threads hold together; written one after the other, round and round.
    """
    whole = len(rows_NR) // batch_size * batch_size
    orders = [np.random.default_rng(seed).permutation(len(rows_NR))[:whole] for seed in range(8)]
    places = [np.zeros((batch_size, rows_NR.shape[1]), np.uint8) for _ in range(num_places)]

    def run(number: int) -> int:
        batches_SB = orders[number % len(orders)].reshape(-1, batch_size)

        def gather(thread: int) -> None:
            own = places[thread::num_threads]
            for step, index_B in enumerate(batches_SB[thread::num_threads]):
                np.take(rows_NR, index_B, axis=0, out=own[step % len(own)], mode="clip")  # "raise" would copy twice

        workers = [threading.Thread(target=gather, args=(thread,)) for thread in range(num_threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return whole

    return run


def whole_epoch(loader: Loader) -> Callable[[int], int]:
    """Return a round that reads an epoch and looks at nothing."""
    return lambda number: sum(len(step.batch.sample_index_B) for step in loader.train_batches(number))


def some_steps(loader: Loader, num_steps: int) -> Callable[[int], int]:
    """Return a round of the first steps of an epoch, for a loader too slow for a whole one."""

    def run(number: int) -> int:
        batches = loader.train_batches(number)
        done = sum(len(next(batches).batch.sample_index_B) for _ in range(num_steps))
        batches.close()
        return done

    return run


def prepared_steps(loader: Loader, num_steps: int, out_size_px: int) -> Callable[[int], int]:
    """Return a round that reads some batches and prepares them for a model."""

    def run(number: int) -> int:
        batches = loader.train_batches(number)
        loaded = (step.batch for step in islice(batches, num_steps))
        done = sum(prepare(batch, batch.sample_index_B.numpy(), number, out_size_px) for batch in loaded)
        batches.close()
        return done

    return run


def prepared_epoch(loader: Loader, out_size_px: int, dtype: torch.dtype = torch.float32) -> Callable[[int], int]:
    """Return a round that does the whole job: reads an epoch and prepares it for a model.

    As in training, the host knows the indices from the order: nothing is asked back from a GPU.
    """
    feed = loader.feed  # type: ignore[attr-defined]

    def run(number: int) -> int:
        order = epoch_order(len(feed.sample_index_n), epoch=number, seed=feed.seed, batch_size=feed.config.batch_size)
        return sum(
            prepare(step.batch, feed.sample_index_n[ordered.positions_B], number, out_size_px, dtype)
            for ordered, step in zip(order, loader.train_batches(number), strict=True)
        )

    return run


def prepare(
    batch: Batch,
    sample_index_B: npt.NDArray[np.int64],
    epoch: int,
    out_size_px: int,
    dtype: torch.dtype = torch.float32,
) -> int:
    """Crop, flip, resize and normalise a batch; return how many images it has."""
    params = augment_params(SEED, epoch, sample_index_B, AugmentConfig.nih())
    return len(prepare_images(batch.images_B1HW, params, out_size_px, dtype=dtype))


def prepare_contenders(size_px: int, out_size_px: int, batch_size: int, threads: Executor) -> list[Contender]:
    """Return what happens to a batch between loader and model, on the same images and parameters."""
    random = np.random.default_rng(SEED)
    images_B1HW = torch.from_numpy(random.integers(0, 256, (batch_size, 1, size_px, size_px), dtype=np.uint8))
    index_B = random.permutation(batch_size)
    nih, chexpert = (
        augment_params(SEED, 0, index_B, config) for config in (AugmentConfig.nih(), AugmentConfig.chexpert())
    )
    num_batches = max(1, PREPARE_IMAGES // batch_size)
    works: dict[str, Callable[[], object]] = {
        "augment_params": lambda: augment_params(SEED, 0, index_B, AugmentConfig.nih()),
        "resample": lambda: resample(images_B1HW, nih, out_size_px),
        "OpenCV nih": lambda: opencv_prepare(images_B1HW, nih, out_size_px, threads),
        "OpenCV chexpert": lambda: opencv_prepare(images_B1HW, chexpert, out_size_px, threads),
        "prepare nih": lambda: prepare_images(images_B1HW, nih, out_size_px),
        "prepare chexpert": lambda: prepare_images(images_B1HW, chexpert, out_size_px),
    }

    def repeated(work: Callable[[], object]) -> Callable[[int], int]:
        return lambda _: sum(batch_size for _ in range(num_batches) if work() is not None)

    return [Contender(name=name, run=repeated(work), peer="resample") for name, work in works.items()]


def write_pack(folder: Path, num_images: int, size_px: int) -> Pack:
    """Write shards of noise, and the same pixels as one file for `bare np.take`; return the pack."""
    folder.mkdir(exist_ok=True)
    per_shard = math.ceil(num_images / NUM_SHARDS)
    random = np.random.default_rng(SEED)
    whole = np.lib.format.open_memmap(folder / WHOLE, mode="w+", dtype=np.uint8, shape=(num_images, size_px, size_px))
    shards = []
    for number, first in enumerate(range(0, num_images, per_shard)):
        rows = random.integers(0, 256, (min(per_shard, num_images - first), size_px, size_px), dtype=np.uint8)
        whole[first : first + len(rows)] = rows
        path = folder / f"shard-{number:05d}.npy"
        np.save(path, rows)
        num_bytes = path.stat().st_size
        shards.append(Shard(file=path.name, first_index=first, num_samples=len(rows), num_bytes=num_bytes, checksum=""))
    whole.flush()
    return Pack(
        folder=folder,
        format="raw",
        spec=ImageSpec.square(size_px),
        encoding=Encoding(),
        pixel_rule="",
        dataset="noise",
        identity="",
        num_samples=num_images,
        rejected=(),
        shards=tuple(shards),
        manifest_sha256="",
        rejected_sha256="",
    )
