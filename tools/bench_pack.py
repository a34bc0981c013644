"""Packing 1024 px films, in images a second, beside FFCV's own writer, a Pillow loop, and what decoding and disk allow.

    python -m tools.bench_pack [--images DIR] [--scratch DIR] [--sources png,jpeg] [--sizes 256,512,1024]
        [--formats raw,tar,beton] [--num-images 2048] [--runs 3]

Contenders, one after the other, round after round, over the same files in the page cache:

- ``limit``: our decoding and resizing, and the pixels thrown away, with one and with two processes; no packer can be
  faster with these decoders;
- ``raw``, ``tar``, ``beton``: `cxr-prep pack` without the start of its own process, but with that of its workers,
  checks, XXH3 of every shard, CRC-32 of every sample, and every shard flushed to disk before it gets its name;
- ``disk``: the bytes of a pack of format `raw` written and flushed, nothing decoded: the limit that ``--scratch`` sets,
  a folder on the disk by default; one in /dev/shm takes the disk out;
- ``pillow``: a loop that opens, converts to gray and resizes with Pillow, and throws the pixels away;
- ``ffcv rgb``: FFCV's DatasetWriter with its image field, JPEG of quality 95 (its betons of whole pixels would be three
  times as large as ours); it flushes nothing and takes no checksums, so its file is flushed once when it is done;
- ``ffcv gray``: the same with the gray array that our beton holds, decoded and resized by Pillow.

What a contender writes is deleted after its clock has stopped. Limit and packer with two processes get
``--num-images``, everybody else half of them. Without ``--images`` films are drawn whose PNGs are about as large as
those of ChestX-ray14 (375 kB). One row a contender goes to tools/results/pack.csv.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from pipeline.pack_format import PackFormat
from pipeline.packing import kernels
from tools.benchmark import RESULTS, append_row, summarise
from tools.pack_contenders import PEERS, Contender, Task, contenders_of
from tools.pack_films import as_jpegs, draw_films

WARM_UP = 8
"""The round before the first that counts goes over so many times fewer images."""


def main() -> None:
    """Run the benchmark and append its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of PNG films; by default some are drawn")
    parser.add_argument("--scratch", type=Path, help="folder on the disk to write to (default: that of the system)")
    parser.add_argument("--sources", default="png,jpeg", help="kinds of files (default png,jpeg)")
    parser.add_argument("--sizes", default="256,512,1024", help="sizes in px (default 256,512,1024)")
    parser.add_argument("--formats", default="raw,tar,beton", help="formats (default raw,tar,beton)")
    parser.add_argument("--num-images", type=int, default=2048, help="images a run (default 2048)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each contender (default 3)")
    arguments = parser.parse_args()
    formats: tuple[PackFormat, ...] = tuple(arguments.formats.split(","))
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as name:
        folder = Path(name)
        films = arguments.images or draw_films(folder / "films")
        roots = {"png": films, "jpeg": as_jpegs(films, folder / "jpegs")}
        for source in arguments.sources.split(","):
            for size_px in map(int, arguments.sizes.split(",")):
                task = Task(
                    source=source,
                    root=roots[source],
                    scratch=folder,
                    size_px=size_px,
                    num_images=arguments.num_images,
                    formats=formats,
                )
                contenders = contenders_of(task)
                measured = measure(contenders, arguments.runs, task.written)
                drawn = "real" if arguments.images else "drawn"
                report(contenders, measured, task, f"{drawn} {source}, {mean_kb(task):.0f} kB")


class Run(NamedTuple):
    """What one run took: on the clock, and of all processors, its processes included."""

    wall_s: float
    cpu_s: float


def cpu_s() -> float:
    """Return the processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def measure(contenders: Sequence[Contender], runs: int, written: Path) -> dict[str, list[Run]]:
    """Return every run by contender's name; they take turns, after a short round unmeasured.

    Each finds the folder `written` empty; what it leaves there is deleted and off the disk before the next one begins.
    """
    measured: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    for run in range(runs + 1):
        for contender in contenders:
            written.mkdir()
            begin_s, begin_cpu_s = time.perf_counter(), cpu_s()
            contender.run(contender.num_images if run else contender.num_images // WARM_UP)
            if run:
                measured[contender.name].append(Run(time.perf_counter() - begin_s, cpu_s() - begin_cpu_s))
            shutil.rmtree(written)
            os.sync()
        print(f"\rrun {run} of {runs}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return measured


def mean_kb(task: Task) -> float:
    """Return the mean size of the films."""
    sizes = [path.stat().st_size for path in task.root.iterdir()]
    return sum(sizes) / len(sizes) / 1000


def file_system(folder: Path) -> str:
    """Return the kind of file system that a folder lies on, as Linux names it; empty elsewhere."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return ""
    over = [(point, kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(over, key=lambda mount: len(mount[0]))[1] if over else ""


def report(contenders: Sequence[Contender], measured: dict[str, list[Run]], task: Task, source: str) -> None:
    """Print images a second beside the peers with as many processes, and the gain over one; append the rows."""
    rates = {
        contender.name: summarise([contender.num_images / run.wall_s for run in measured[contender.name]])
        for contender in contenders
    }
    written_to = file_system(task.scratch)
    print(f"{source}, to {task.size_px} px on {written_to}; images/s: median (min to max)")
    for contender in contenders:
        rate = rates[contender.name]
        ratios = {
            f"of_{peer.replace(' ', '_')}": rate.median / rates[f"{peer} x{contender.num_processes}"].median
            for peer in PEERS
            if f"{peer} x{contender.num_processes}" in rates
        }
        one = rates.get(f"{contender.kind} x1")
        of_one = f"{rate.median / one.median:.3f}" if one else ""
        cpu_ms = summarise([1000 * run.cpu_s / contender.num_images for run in measured[contender.name]]).median
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
                "file_system": written_to,
                "contender": contender.kind,
                "num_processes": contender.num_processes,
                "source": source,
                "size_px": task.size_px,
                "num_images": contender.num_images,
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
