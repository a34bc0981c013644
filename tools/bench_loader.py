"""Loaders and augmentation, in images a second, beside what the machine could do at most and beside how others do it.

    python -m tools.bench_loader                       all jobs; about ten minutes on two quiet cores
    python -m tools.bench_loader --jobs batches --batch 64

Contenders of a job run one after the other in one process, round after round; a row each goes to
tools/results/loaders.csv, with the median and the ratio to a peer of the same run.

- ``batches``: a raw pack of noise; `tools.loader_batches` says which contenders;
- ``ffcv``: the gray beton read by our loader `ffcv`, with one thread and with all;
- ``job256``: read 256 px, random resized crop to 224 px, flip, normalise, batch, index: ours from raw and from beton,
  FFCV's own Loader from its raw colour images;
- ``job512``: the same from 512 px gray JPEGs: ours by DALI, beside FFCV's own JPEG pipeline, the authors' dataset,
  webdataset, DALI's own readers;
- ``gpu``: resident and augmented, raw over PCIe, DALI decoding on the GPU, and what of the host's cores that takes;
  says "not yet measured" where there is no GPU.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from pipeline.cores import usable_cores
from tools import loader_peers
from tools.benchmark import RESULTS, append_row, summarise
from tools.interleaved import wait_for
from tools.loader_batches import Contender, batch_contenders, opened, prepared_epoch, whole_epoch, write_pack
from tools.loader_films import Films, draw
from tools.pack_films import NUM_FILES

JOBS = ("batches", "job512", "job256", "ffcv", "gpu")
"""In the order in which they run: what forks comes before what compiles and starts threads for good."""

QUICK_FILMS = 8
"""Distinct films with `--quick`: drawing one takes a fifth of a second."""


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_loader", description="Loaders and augmentation.")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS, help="what to measure (default: everything)")
    parser.add_argument("--images", type=int, default=20_000, help="images of noise (default 20,000: 1.2 GiB)")
    parser.add_argument("--films", type=int, default=2048, help="films of the jobs beside peers")
    parser.add_argument("--size", type=int, default=256, help="side of a packed image in px, of the small ones")
    parser.add_argument("--jpeg-size", type=int, default=512, help="side of the JPEGs in px")
    parser.add_argument("--out-size", type=int, default=224, help="side of a prepared image in px")
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64, 256], help="batch sizes of `batches`")
    parser.add_argument("--job-batch", type=int, default=64, help="batch size of the other jobs")
    parser.add_argument("--threads", type=int, default=2, help="threads or processes of every contender")
    parser.add_argument("--rounds", type=int, default=15, help="measured rounds of `batches`, after one to warm up")
    parser.add_argument("--job-rounds", type=int, default=7, help="measured rounds of the other jobs")
    parser.add_argument("--quick", action="store_true", help="few small images: does it run at all?")
    parser.add_argument("--folder", type=Path, help="where the temporary packs lie (default: the system's choice)")
    options = parser.parse_args()
    if options.quick:
        options.images, options.films, options.size, options.jpeg_size, options.out_size = 300, 160, 32, 64, 24
        options.batch, options.job_batch, options.rounds, options.job_rounds = [16], 16, 2, 2
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="bench-loader-", dir=options.folder) as folder:
        for job in options.jobs:
            {"batches": batches, "ffcv": ffcv, "job256": job256, "job512": job512, "gpu": gpu}[job](
                Path(folder), options
            )


def batches(folder: Path, options: argparse.Namespace) -> None:
    """Measure bare batches, and preparation, for every batch size."""
    print(f"writing {options.images:,} images of {options.size} px, twice ...", file=sys.stderr)
    pack = write_pack(folder, options.images, options.size)
    for batch_size in options.batch:
        with ExitStack() as stack:
            contenders = batch_contenders(
                stack, pack, batch_size=batch_size, num_threads=options.threads, out_size_px=options.out_size
            )
            rates = measure(
                "batches", contenders, options.rounds, options, batch_size, pack.height_px, pack.num_samples
            )
        print(f"  raw is {rates['raw'] / rates['reference']:,.0f} times as fast as reference")


def ffcv(folder: Path, options: argparse.Namespace) -> None:
    """Measure our loader over the gray beton, a core and all of them."""
    pack = films(folder, options.size, options).pack("beton")
    with ExitStack() as stack:
        one, several = (
            whole_epoch(opened(stack, "ffcv", pack, batch_size=options.job_batch, num_threads=threads))
            for threads in (1, options.threads)
        )
        contenders = [
            Contender(name="ffcv, one thread", run=repeated(one), peer="ffcv, one thread"),
            Contender(name="ffcv", run=repeated(several), peer="ffcv, one thread"),
        ]
        measure("ffcv", contenders, options.job_rounds, options, options.job_batch, options.size, options.films)


def job256(folder: Path, options: argparse.Namespace) -> None:
    """Measure the whole job from small images that are stored as pixels."""
    drawn, batch, out_size, threads = films(folder, options.size, options), *job_options(options)
    beton = drawn.ffcv_beton("rgb-raw")
    peer = "FFCV's Loader, raw RGB"
    with ExitStack() as stack:
        raw, betons = (
            opened(stack, backend, pack, batch_size=batch, num_threads=threads)
            for backend, pack in (("raw", drawn.pack("raw")), ("ffcv", drawn.pack("beton")))
        )
        contenders = [
            Contender(name=peer, run=loader_peers.ffcv(beton, out_size, batch, threads), peer=peer),
            Contender(name="raw + prepare", run=prepared_epoch(raw, out_size), peer=peer),
            Contender(name="ffcv + prepare", run=prepared_epoch(betons, out_size), peer=peer),
        ]
        measure("job256", contenders, options.job_rounds, options, batch, options.size, options.films)


def job512(folder: Path, options: argparse.Namespace) -> None:
    """Measure the whole job from larger gray JPEGs."""
    drawn, batch, out_size, threads = films(folder, options.jpeg_size, options), *job_options(options)
    beton, pack = drawn.ffcv_beton("rgb"), drawn.pack("tar")
    tars = [pack.shard_path(shard) for shard in pack.shards]
    peer = "FFCV's Loader, JPEG"
    with ExitStack() as stack:
        # Those that fork come first: no thread of the others is left in their processes.
        contenders = [
            Contender(
                name="authors' dataset, DataLoader",
                run=loader_peers.authors(drawn.files, out_size, batch, threads),
                peer=peer,
            ),
            Contender(
                name="webdataset, DataLoader", run=loader_peers.webdataset(tars, out_size, batch, threads), peer=peer
            ),
        ]
        for contender in contenders:
            contender.run(0)
        ours = opened(stack, "dali", pack, batch_size=batch, num_threads=threads)
        contenders += [
            Contender(name=peer, run=loader_peers.ffcv(beton, out_size, batch, threads), peer=peer),
            Contender(
                name="DALI's readers, CPU",
                run=loader_peers.dali_readers(tars, out_size, batch, threads, device="cpu"),
                peer=peer,
            ),
            Contender(name="dali + prepare", run=prepared_epoch(ours, out_size), peer=peer),
        ]
        rates = measure("job512", contenders, options.job_rounds, options, batch, options.jpeg_size, options.films)
    share = rates["dali + prepare"] / rates["authors' dataset, DataLoader"]
    print(f"  dali + prepare is {share:.2f} times as fast as the authors' dataset")


def gpu(folder: Path, options: argparse.Namespace) -> None:
    """Measure what needs a GPU."""
    if not torch.cuda.is_available():
        print("gpu: not yet measured, there is no GPU that torch can use")
        return
    _, out_size, threads = job_options(options)
    batch = 256
    noise = write_pack(folder / "gpu", options.images, options.size)
    tar = films(folder, options.jpeg_size, options).pack("tar")
    tars = [tar.shard_path(shard) for shard in tar.shards]
    with ExitStack() as stack:
        resident, raw, dali = (
            opened(stack, backend, pack, batch_size=batch, num_threads=threads, device="cuda")
            for backend, pack in (("resident", noise), ("raw", noise), ("dali", tar))
        )
        contenders = [
            Contender(name="raw over PCIe", run=whole_epoch(raw), peer="raw over PCIe"),
            Contender(
                name="resident + prepare, bf16",
                run=prepared_epoch(resident, out_size, torch.bfloat16),
                peer="raw over PCIe",
            ),
            Contender(
                name="raw + prepare, bf16", run=prepared_epoch(raw, out_size, torch.bfloat16), peer="raw over PCIe"
            ),
            Contender(
                name="DALI's readers, mixed",
                run=loader_peers.dali_readers(tars, out_size, batch, threads, device="cuda"),
                peer="DALI's readers, mixed",
            ),
            Contender(name="dali mixed", run=whole_epoch(dali), peer="DALI's readers, mixed"),
            Contender(
                name="dali mixed + prepare, bf16",
                run=prepared_epoch(dali, out_size, torch.bfloat16),
                peer="DALI's readers, mixed",
            ),
        ]
        measure("gpu", contenders, options.job_rounds, options, batch, options.size, options.images, device="cuda")


def job_options(options: argparse.Namespace) -> tuple[int, int, int]:
    """Return batch size, side of the result and threads of the jobs beside peers."""
    return options.job_batch, options.out_size, options.threads


def films(folder: Path, size_px: int, options: argparse.Namespace) -> Films:
    """Return films of one size, drawn once."""
    place = folder / f"films-{size_px}"
    if size_px not in _drawn or not place.exists():
        print(f"drawing films of {size_px} px ...", file=sys.stderr)
        num_distinct = QUICK_FILMS if options.quick else NUM_FILES
        _drawn[size_px] = draw(place, num_images=options.films, size_px=size_px, num_distinct=num_distinct)
    return _drawn[size_px]


_drawn: dict[int, Films] = {}


def repeated(run: loader_peers.Round, times: int = 8) -> loader_peers.Round:
    """Return rounds of several epochs, where one is too short to time."""
    return lambda number: sum(run(number * times + epoch) for epoch in range(times))


def measure(
    job: str,
    contenders: Sequence[Contender],
    rounds: int,
    options: argparse.Namespace,
    batch_size: int,
    size_px: int,
    num_images: int,
    device: str = "cpu",
) -> dict[str, float]:
    """Run the contenders round after round, print a table, append a row each; return the medians.

    Round 0 warms up and does not count. Processor time is that of this process: what a DataLoader's workers take is in
    their own.
    """
    print(
        f"\n{job}: {num_images:,} images of {size_px} px, batches of {batch_size}, {options.threads} threads; "
        f"images/s, median of {rounds} rounds"
    )
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    shares: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    costs_us: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(rounds + 1):
        for contender in contenders:
            began_s, began_cpu_s = time.perf_counter(), time.process_time()
            num_done = contender.run(number)
            wait_for(device)
            wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
            if number > 0:
                rates[contender.name].append(num_done / wall_s)
                shares[contender.name].append(cpu_s / wall_s / usable_cores())
                costs_us[contender.name].append(cpu_s / num_done * 1e6)
    medians = {name: summarise(found).median for name, found in rates.items()}
    for contender in contenders:
        rate, ratio = summarise(rates[contender.name]), medians[contender.name] / medians[contender.peer]
        share, cost_us = (summarise(found[contender.name]).median for found in (shares, costs_us))
        print(
            f"  {contender.name:<30}{rate.median:>12,.0f}   ({rate.min:,.0f} to {rate.max:,.0f})"
            f"   {ratio:.3g} x {contender.peer}; {cost_us:.1f} us of processor time an image, {share:.0%} of the cores"
        )
        append_row(
            RESULTS / "loaders.csv",
            {
                "job": job,
                "contender": contender.name,
                "size_px": size_px,
                "out_size_px": options.out_size,
                "batch_size": batch_size,
                "num_threads": options.threads,
                "num_images": num_images,
                "rounds": rounds,
                "images_per_s": round(rate.median),
                "images_per_s_min": round(rate.min),
                "images_per_s_max": round(rate.max),
                "peer": contender.peer,
                "ratio_to_peer": round(ratio, 4),
                "cpu_us_per_image": round(cost_us, 2),
                "cpu_share": round(share, 4),
                "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
            },
        )
    return medians


if __name__ == "__main__":
    main()
