"""Does a loader keep up with the step? Whole training steps fed by real loaders beside steps fed by a constant batch.

    python -m tools.bench_feed
    python -m tools.bench_feed --pack DIR --device cuda --model densenet121 --batch 256 --loaders raw resident

Each loader gives whole epochs to a step with NVUM and its teacher, one after the other, round after round. `synthetic`
makes no image, so its rate is that of the step alone; beside a loader stand its share of that rate, and the 99th
percentile of the time that the step waited for a batch, as a share of a step. On a GPU an epoch ends when the device
has done it, and within an epoch nothing waits.
"""

import argparse
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import torch

from pipeline.order import epoch_order
from tools.bench_memory import write_pack
from tools.benchmark import RESULTS, append_row, summarise
from tools.interleaved import wait_for
from trainer.config import TrainConfig
from trainer.distributed import ALONE
from trainer.parts import Parts, opened, settled
from trainer.sections import build
from trainer.step import TrainStep
from trainer.stopwatch import with_waits

ROOFLINE = "synthetic"


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_feed", description="Loaders in front of a step.")
    parser.add_argument("--pack", type=Path, help="a pack; default: one is drawn, raw")
    parser.add_argument("--images", type=int, default=2000, help="images to draw")
    parser.add_argument("--size", type=int, default=64, help="their side in px")
    parser.add_argument("--loaders", nargs="+", default=["raw", "resident"], help="loaders that read the pack")
    parser.add_argument("--model", default="small", help="network")
    parser.add_argument("--batch", type=int, default=64, help="images of a step")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where the step is computed")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch and of the loader")
    parser.add_argument("--rounds", type=int, default=7, help="measured epochs a loader, after one to warm up")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-feed-") as folder, ExitStack() as stack:
        pack = options.pack or write_pack(Path(folder), num_images=options.images, size_px=options.size)
        fed = {name: open_fed(stack, name, pack, options) for name in (ROOFLINE, *options.loaders)}
        rates: dict[str, list[float]] = {name: [] for name in fed}
        waits_s: dict[str, list[float]] = {name: [] for name in fed}
        for number in range(options.rounds + 1):
            for name, (step, parts) in fed.items():
                images_per_s, waited_s = epoch(step, parts, number, options.device)
                if number:  # the first round warms up
                    rates[name].append(images_per_s)
                    waits_s[name] += waited_s
        for name in fed:
            report(name, rates, waits_s[name], options)


def open_fed(stack: ExitStack, loader: str, pack: Path, options: argparse.Namespace) -> tuple[TrainStep, Parts]:
    """Return a step of a run that has not begun, and what feeds it."""
    values = {
        "data": {"pack": str(pack)},
        "loader": {"backend": loader, "batch_size": options.batch, "num_threads": options.threads, "verify": False},
        "model": {"name": options.model},
        "run": {"device": options.device, "num_threads": options.threads},
    }
    config, data = settled(build(TrainConfig, values, source="benchmark"), ALONE)
    parts = opened(stack, config, data, ALONE, load_weights=False)
    return TrainStep(config, data, parts.state), parts


def epoch(step: TrainStep, parts: Parts, number: int, device: str) -> tuple[float, list[float]]:
    """Return the images a second of an epoch, and for each step how long it waited for its batch."""
    cursor, rows_n = parts.state.cursor, parts.data.train.sample_index_n
    cursor.epoch, cursor.consumed = number, 0
    order = epoch_order(
        len(rows_n), epoch=number, seed=parts.config.run.seed, batch_size=parts.config.loader.batch_size
    )
    waits_s = []
    wait_for(device)
    begun_s = time.perf_counter()
    with closing(with_waits(parts.train_loader.train_batches(number, 0))) as batches:
        for ordered, (loaded, waited_s) in zip(order, batches, strict=True):
            step(loaded, rows_n[ordered.positions_B])
            waits_s.append(waited_s)
    wait_for(device)
    if parts.state.memory is not None:
        parts.state.memory.end_epoch()
    return len(rows_n) / (time.perf_counter() - begun_s), waits_s[1:]  # the first batch of an epoch is a start


def report(name: str, rates: dict[str, list[float]], waits_s: list[float], options: argparse.Namespace) -> None:
    """Print a line and append a row."""
    rate, roofline = summarise(rates[name]), summarise(rates[ROOFLINE]).median
    wait_s = float(np.quantile(waits_s, 0.99))
    share_of_step = wait_s / (options.batch / rate.median)
    print(
        f"{name:12s} {rate.median:12,.0f} images/s ({rate.min:,.0f} to {rate.max:,.0f})  "
        f"{rate.median / roofline:7.1%} of {ROOFLINE}; wait at p99 {wait_s * 1e3:.2f} ms, {share_of_step:.1%} of a step"
    )
    append_row(
        RESULTS / "feed.csv",
        {
            "loader": name,
            "model": options.model,
            "batch_size": options.batch,
            "size_px": options.size,
            "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
            "threads": options.threads,
            "rounds": options.rounds,
            "images_per_s": f"{rate.median:.0f}",
            "images_per_s_min": f"{rate.min:.0f}",
            "images_per_s_max": f"{rate.max:.0f}",
            "share_of_synthetic": f"{rate.median / roofline:.4f}",
            "wait_p99_ms": f"{wait_s * 1e3:.3f}",
            "wait_p99_share_of_step": f"{share_of_step:.4f}",
        },
    )


if __name__ == "__main__":
    main()
