"""Packing 1024 px films, in images a second, beside FFCV's own writer, a Pillow loop and what decoding alone allows.

    python -m tools.bench_pack [--images DIR] [--sources png,jpeg] [--sizes 256,512,1024] [--formats raw,tar,beton]

Contenders, one after the other, round after round, over the same files in the page cache, with one and with two
processes:

- ``limit``: our decoding and resizing, and the pixels thrown away; no packer can be faster with these decoders;
- ``pillow``: a loop that opens, converts to gray and resizes with Pillow, and throws the pixels away;
- ``raw``, ``tar``, ``beton``: `cxr-prep pack` without the start of its own process, but with that of its workers,
  checks, checksums, and everything flushed to disk;
- ``ffcv rgb``: FFCV's DatasetWriter with its image field, JPEG of quality 95 (its betons of whole pixels would be three
  times as large as ours);
- ``ffcv gray``: FFCV's DatasetWriter with the gray array that our beton holds, decoded and resized by Pillow.

Limit and Pillow loops run in forks, which start in milliseconds. Without ``--images`` films are drawn whose PNGs are
about as large as those of ChestX-ray14 (375 kB). One row a contender goes to tools/results/pack.csv.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from pipeline.image_spec import ImageSpec
from pipeline.pack_format import PackFormat
from pipeline.packing import kernels
from pipeline.packing.config import PackConfig
from pipeline.packing.packer import pack_manifest
from pipeline.packing.pixels import read_image
from tools import ffcv_peer
from tools.benchmark import RESULTS, append_row, summarise
from tools.pack_films import as_jpegs, draw_films, write_manifest

LIMIT, PILLOW, FFCV_RGB, FFCV_GRAY = "limit", "pillow", "ffcv rgb", "ffcv gray"
PROCESSES = (1, 2)
FFCV_PROCESSES = 2
Loop = Callable[[Sequence[Path]], None]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Something that turns films into small images, with so many processes."""

    kind: str
    num_processes: int
    run: Callable[[], None]

    @property
    def name(self) -> str:
        """What it is called in the table."""
        return f"{self.kind} x{self.num_processes}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What every contender does in one run."""

    source: str
    """png or jpeg."""

    root: Path
    """Folder of the films."""

    size_px: int
    num_images: int
    formats: tuple[PackFormat, ...]

    @property
    def paths(self) -> list[Path]:
        """The films, again and again."""
        files = sorted(self.root.iterdir())
        return [files[index % len(files)] for index in range(self.num_images)]


def main() -> None:
    """Run the benchmark and append its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of PNG films; by default some are drawn")
    parser.add_argument("--sources", default="png,jpeg", help="kinds of files (default png,jpeg)")
    parser.add_argument("--sizes", default="256,512,1024", help="sizes in px (default 256,512,1024)")
    parser.add_argument("--formats", default="raw,tar,beton", help="formats (default raw,tar,beton)")
    parser.add_argument("--num-images", type=int, default=1024, help="images a run (default 1024)")
    parser.add_argument("--runs", type=int, default=7, help="runs of each contender (default 7)")
    arguments = parser.parse_args()
    formats: tuple[PackFormat, ...] = tuple(arguments.formats.split(","))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        films = arguments.images or draw_films(folder / "films")
        roots = {"png": films, "jpeg": as_jpegs(films, folder / "jpegs")}
        for source in arguments.sources.split(","):
            for size_px in map(int, arguments.sizes.split(",")):
                task = Task(
                    source=source,
                    root=roots[source],
                    size_px=size_px,
                    num_images=arguments.num_images,
                    formats=formats,
                )
                contenders = contenders_of(task, folder)
                measured = measure(contenders, arguments.runs)
                drawn = "real" if arguments.images else "drawn"
                report(contenders, measured, task, f"{drawn} {source}, {mean_kb(task):.0f} kB")


def contenders_of(task: Task, folder: Path) -> list[Contender]:
    """Return who takes part."""
    spec, paths = ImageSpec.square(task.size_px), task.paths
    manifest = write_manifest(folder / "films.parquet", [path.name for path in paths])
    loops: dict[str, Loop] = {LIMIT: partial(limit_loop, spec), PILLOW: partial(pillow_loop, task.size_px)}
    contenders = [
        Contender(kind=kind, num_processes=count, run=partial(in_forks, loop, paths, count))
        for kind, loop in loops.items()
        for count in PROCESSES
    ]
    for pack_format in task.formats:
        for count in PROCESSES:
            config = PackConfig(format=pack_format, spec=spec, num_workers=count)
            run = partial(pack, manifest, task.root, folder / "pack", config)
            contenders.append(Contender(kind=pack_format, num_processes=count, run=run))
    kinds: dict[str, ffcv_peer.Kind] = {FFCV_RGB: "rgb", FFCV_GRAY: "gray"}
    for name, kind in kinds.items():
        write = partial(ffcv, paths, folder / "peer.beton", kind, task.size_px)
        contenders.append(Contender(kind=name, num_processes=FFCV_PROCESSES, run=write))
    return contenders


def limit_loop(spec: ImageSpec, paths: Sequence[Path]) -> None:
    """Decode and resize as packing does, nothing else."""
    for path in paths:
        read_image(path, spec)


def pillow_loop(size_px: int, paths: Sequence[Path]) -> None:
    """Decode and resize as anybody would, nothing else."""
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image.convert("L").resize((size_px, size_px), Image.Resampling.BILINEAR))


def in_forks(loop: Loop, paths: Sequence[Path], num_processes: int) -> None:
    """Run a loop over equal parts of the list at the same time, in forks of this process."""
    if num_processes == 1:
        loop(paths)
        return
    with ProcessPoolExecutor(num_processes, mp_context=multiprocessing.get_context("fork")) as processes:
        list(processes.map(loop, [paths[rank::num_processes] for rank in range(num_processes)]))


def pack(manifest: Path, root: Path, out: Path, config: PackConfig) -> None:
    """Make a pack and throw it away."""
    summary = pack_manifest(manifest, root=root, out=out, config=config)
    assert not summary.pack.rejected
    shutil.rmtree(out)


def ffcv(paths: Sequence[Path], out: Path, kind: ffcv_peer.Kind, size_px: int) -> None:
    """Let FFCV write a beton, flush it as ours are flushed, and throw it away."""
    ffcv_peer.write(paths, out, kind=kind, size_px=size_px, num_workers=FFCV_PROCESSES)
    with out.open("rb") as file:
        os.fsync(file.fileno())
    out.unlink()


class Run(NamedTuple):
    """What one run took: on the clock, and of all processors, its processes included."""

    wall_s: float
    cpu_s: float


def cpu_s() -> float:
    """Return the processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def measure(contenders: Sequence[Contender], runs: int) -> dict[str, list[Run]]:
    """Return every run by contender's name; they take turns, after one round unmeasured."""
    measured: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    for run in range(runs + 1):
        for contender in contenders:
            begin_s, begin_cpu_s = time.perf_counter(), cpu_s()
            contender.run()
            if run:
                measured[contender.name].append(Run(time.perf_counter() - begin_s, cpu_s() - begin_cpu_s))
        print(f"\rrun {run} of {runs}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return measured


def mean_kb(task: Task) -> float:
    """Return the mean size of the films."""
    sizes = [path.stat().st_size for path in task.root.iterdir()]
    return sum(sizes) / len(sizes) / 1000


def report(contenders: Sequence[Contender], measured: dict[str, list[Run]], task: Task, source: str) -> None:
    """Print images a second beside the peers with as many processes, and the gain over one; append the rows."""
    rates = {name: summarise([task.num_images / run.wall_s for run in runs]) for name, runs in measured.items()}
    print(f"{task.num_images} images, {source}, to {task.size_px} px; images/s: median (min to max)")
    for contender in contenders:
        rate = rates[contender.name]
        ratios = {
            f"of_{peer.replace(' ', '_')}": rate.median / rates[f"{peer} x{contender.num_processes}"].median
            for peer in (LIMIT, PILLOW, FFCV_RGB, FFCV_GRAY)
            if f"{peer} x{contender.num_processes}" in rates
        }
        one = rates.get(f"{contender.kind} x1")
        of_one = f"{rate.median / one.median:.3f}" if one else ""
        cpu_ms = summarise([1000 * run.cpu_s / task.num_images for run in measured[contender.name]]).median
        print(
            f"{contender.name:13} {rate.median:6.1f} ({rate.min:.1f} to {rate.max:.1f}); "
            + ", ".join(f"{ratio:.2f} {name}" for name, ratio in ratios.items())
            + (f"; {of_one} times one process" if of_one else "")
            + f"; {cpu_ms:.2f} ms of processor an image"
        )
        append_row(
            RESULTS / "pack.csv",
            {
                "pillow": metadata.version("pillow"),
                "ffcv": metadata.version("ffcv"),
                "compiled_loops": kernels.library is not None,
                "contender": contender.kind,
                "num_processes": contender.num_processes,
                "source": source,
                "size_px": task.size_px,
                "num_images": task.num_images,
                "runs": len(measured[contender.name]),
                "images_per_s": f"{rate.median:.1f}",
                "images_per_s_min": f"{rate.min:.1f}",
                "images_per_s_max": f"{rate.max:.1f}",
                **{name: f"{ratio:.3f}" for name, ratio in ratios.items()},
                "of_one_process": of_one,
                "cpu_ms_per_image": f"{cpu_ms:.2f}",
            },
        )


if __name__ == "__main__":
    main()
