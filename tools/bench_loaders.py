"""Loaders and augmentation, in images a second, beside what the machine could do at most.

    python -m tools.bench_loaders

It writes a raw pack of noise into a temporary folder and runs the contenders one after the other, round after round:

- ``bare np.take``: threads that gather random rows of one memory map, in an order made beforehand, into as many buffers
  of the same size as `raw` goes round in; no loader that uses such buffers can be faster on this machine;
- ``raw``, ``synthetic``, ``reference``: whole epochs of our loaders, order and indices included;
- ``augment_params``: drawing the parameters alone; ``resample``: a batch through one affine grid, the plain way;
  ``prepare nih``, ``prepare chexpert``: what training does to a batch, without and with rotation;
- ``raw + prepare nih``: what a training step gets: read, random resized crop, flip, normalise.
"""

import argparse
import math
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pipeline.augment import AugmentConfig, augment_params
from pipeline.encoding import Encoding
from pipeline.image_spec import ImageSpec
from pipeline.loaders import Loader, LoaderConfig, open_loader
from pipeline.loaders.raw import RawLoader
from pipeline.pack import Pack, Shard
from pipeline.prepare import prepare_images
from pipeline.resample_plain import resample
from tools.benchmark import RESULTS, Summary, append_row, summarise

NUM_SHARDS = 64  # what `cxr-prep pack` makes of 112,120 images of 256 px
SEED = 0
PREPARE_IMAGES = 512
REFERENCE_STEPS = 2


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to do the job."""

    name: str
    """What the table and the CSV call it."""

    run: Callable[[int], int]
    """Does one round, given its number, and returns how many images it did."""

    peer: str
    """The contender that the ratio is to."""


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_loaders", description="Loaders and augmentation.")
    parser.add_argument("--images", type=int, default=20_000, help="images in the pack (default 20,000: 1.2 GiB)")
    parser.add_argument("--size", type=int, default=256, help="side of a packed image in px")
    parser.add_argument("--out-size", type=int, default=224, help="side of a prepared image in px")
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64, 256], help="batch sizes")
    parser.add_argument("--threads", type=int, default=2, help="threads of loaders, np.take and torch")
    parser.add_argument("--rounds", type=int, default=15, help="measured rounds, after one to warm up")
    parser.add_argument("--folder", type=Path, help="where the temporary pack lies (default: the system's choice)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="bench-loaders-", dir=options.folder) as folder:
        print(f"writing {options.images:,} images of {options.size} px, twice ...", file=sys.stderr)
        pack = write_pack(Path(folder), options.images, options.size)
        for batch_size in options.batch:
            print(
                f"\n{options.images:,} images of {options.size} px, {len(pack.shards)} shards, "
                f"batches of {batch_size}, {options.threads} threads; images/s, median of {options.rounds} rounds"
            )
            measure_batch_size(pack, batch_size, options)


def measure_batch_size(pack: Pack, batch_size: int, options: argparse.Namespace) -> None:
    """Measure every contender with one batch size."""
    threads: int = options.threads

    def loader(backend: str) -> Loader:
        config = LoaderConfig(backend=backend, batch_size=batch_size, num_threads=threads, verify=False)
        return open_loader(config, pack=pack, sample_index_n=np.arange(pack.num_samples), seed=SEED)

    rows_NR = np.load(pack.folder / "whole.npy", mmap_mode="r").reshape(pack.num_samples, -1)
    with loader("raw") as raw, loader("synthetic") as synthetic, loader("reference") as reference:
        assert isinstance(raw, RawLoader)
        num_places = raw.num_buffers * raw.steps_per_group
        contenders = [
            Contender(
                name="bare np.take", run=bare_take(rows_NR, batch_size, threads, num_places), peer="bare np.take"
            ),
            Contender(name="raw", run=whole_epoch(raw), peer="bare np.take"),
            Contender(name="synthetic", run=whole_epoch(synthetic), peer="bare np.take"),
            Contender(name="reference", run=some_steps(reference, REFERENCE_STEPS), peer="raw"),
            *prepare_contenders(pack.height_px, options.out_size, batch_size),
            Contender(
                name="raw + prepare nih",
                run=prepared_steps(raw, max(1, PREPARE_IMAGES // batch_size), options.out_size),
                peer="prepare nih",
            ),
        ]
        report(contenders, interleaved(contenders, options.rounds), pack, batch_size, options)


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
    config = AugmentConfig.nih()

    def run(number: int) -> int:
        batches, done = loader.train_batches(number), 0
        for _ in range(num_steps):
            images_B1HW, sample_index_B = next(batches).batch
            params = augment_params(SEED, number, sample_index_B.numpy(), config)
            prepare_images(images_B1HW, params, out_size_px)
            done += len(sample_index_B)
        batches.close()
        return done

    return run


def prepare_contenders(size_px: int, out_size_px: int, batch_size: int) -> list[Contender]:
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
        "prepare nih": lambda: prepare_images(images_B1HW, nih, out_size_px),
        "prepare chexpert": lambda: prepare_images(images_B1HW, chexpert, out_size_px),
    }

    def repeated(work: Callable[[], object]) -> Callable[[int], int]:
        return lambda _: sum(batch_size for _ in range(num_batches) if work() is not None)

    return [Contender(name=name, run=repeated(work), peer="resample") for name, work in works.items()]


def interleaved(contenders: list[Contender], rounds: int) -> dict[str, Summary]:
    """Return each contender's images a second; round 0 warms up and does not count."""
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(rounds + 1):
        for contender in contenders:
            began_s = time.perf_counter()
            num_images = contender.run(number)
            if number > 0:
                rates[contender.name].append(num_images / (time.perf_counter() - began_s))
    return {name: summarise(found) for name, found in rates.items()}


def report(
    contenders: list[Contender], rates: dict[str, Summary], pack: Pack, batch_size: int, options: argparse.Namespace
) -> None:
    """Print a table and append a row a contender to tools/results/loaders.csv."""
    for contender in contenders:
        rate = rates[contender.name]
        ratio = rate.median / rates[contender.peer].median
        print(
            f"  {contender.name:<20}{rate.median:>12,.0f}   ({rate.min:,.0f} to {rate.max:,.0f})"
            f"   {ratio:.3g} x {contender.peer}"
        )
        append_row(
            RESULTS / "loaders.csv",
            {
                "contender": contender.name,
                "size_px": pack.height_px,
                "out_size_px": options.out_size,
                "batch_size": batch_size,
                "num_threads": options.threads,
                "num_images": pack.num_samples,
                "num_shards": len(pack.shards),
                "rounds": options.rounds,
                "images_per_s": round(rate.median),
                "images_per_s_min": round(rate.min),
                "images_per_s_max": round(rate.max),
                "peer": contender.peer,
                "ratio_to_peer": round(ratio, 4),
            },
        )
    print(f"  raw is {rates['raw'].median / rates['reference'].median:,.0f} times as fast as reference")


def write_pack(folder: Path, num_images: int, size_px: int) -> Pack:
    """Write shards of noise, and the same pixels as one file for `bare np.take`; return the pack."""
    per_shard = math.ceil(num_images / NUM_SHARDS)
    random = np.random.default_rng(SEED)
    whole = np.lib.format.open_memmap(
        folder / "whole.npy", mode="w+", dtype=np.uint8, shape=(num_images, size_px, size_px)
    )
    shards = []
    for number, first in enumerate(range(0, num_images, per_shard)):
        rows = random.integers(0, 256, (min(per_shard, num_images - first), size_px, size_px), dtype=np.uint8)
        whole[first : first + len(rows)] = rows
        path = folder / f"shard-{number:05d}.npy"
        np.save(path, rows)
        num_bytes = path.stat().st_size
        shards.append(Shard(file=path.name, first_index=first, num_samples=len(rows), num_bytes=num_bytes, sha256=""))
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


if __name__ == "__main__":
    main()
