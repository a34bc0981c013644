"""Packing 1024 px PNG films to 256 px, in images a second, beside bare loops that only decode and resize.

    python -m tools.bench_pack [--images DIR]

Contenders, one after the other, round after round, over the same files in the page cache:

- ``pillow loop x1``: open, convert to gray, resize, and throw the pixels away; no packer that decodes with Pillow
  can be faster on one core;
- ``pillow loop x2``: the same loop on halves of the list in two forks, which start in milliseconds;
- ``pack x1`` and ``pack x2``: `cxr-prep pack` without the start of its own process, but with that of its
  workers, checks, checksums, and everything flushed to disk.

Without ``--images`` it draws films whose PNGs are about as large as those of ChestX-ray14 (375 kB). One row a contender
goes to tools/results/pack.csv.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from manifests.schema import METADATA_KEY, SCHEMA_VERSION
from pipeline.image_spec import ImageSpec
from pipeline.packing.config import PackConfig
from pipeline.packing.packer import pack_manifest
from tools.benchmark import RESULTS, append_row, summarise

PEER = "pillow loop"
SIZE_PX = 256
SOURCE_PX = 1024
NUM_FILES = 64
"""Films that are drawn; the list of images goes through them again and again."""


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


def main() -> None:
    """Run the benchmark and append its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of PNG films; by default some are drawn")
    parser.add_argument("--num-images", type=int, default=512, help="images a run (default 512)")
    parser.add_argument("--runs", type=int, default=7, help="runs of each contender (default 7)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = arguments.images or draw_films(folder / "films")
        files = sorted(root.glob("*.png"))
        paths = [files[i % len(files)].name for i in range(arguments.num_images)]
        manifest, out = write_manifest(folder / "films.parquet", paths), folder / "pack"
        contenders = [
            Contender(kind=PEER, num_processes=1, run=lambda: bare_loop(root, paths)),
            Contender(kind=PEER, num_processes=2, run=lambda: bare_loops(root, paths)),
            Contender(kind="pack", num_processes=1, run=lambda: pack(manifest, root, out, num_workers=1)),
            Contender(kind="pack", num_processes=2, run=lambda: pack(manifest, root, out, num_workers=2)),
        ]
        measured = measure(contenders, arguments.runs)
        mean_kb = sum(file.stat().st_size for file in files) / len(files) / 1000
    source = f"{'real' if arguments.images else 'drawn'} PNG, {mean_kb:.0f} kB"
    report(contenders, measured, num_images=arguments.num_images, source=source)


def bare_loop(root: Path, paths: Sequence[str]) -> None:
    """Decode and resize, nothing else."""
    for path in paths:
        with Image.open(root / path) as image:
            np.asarray(image.convert("L").resize((SIZE_PX, SIZE_PX), Image.Resampling.BILINEAR))


def bare_loops(root: Path, paths: Sequence[str]) -> None:
    """Run the bare loop over halves of the list at the same time, in forks of this process."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as processes:
        list(processes.map(bare_loop, [root, root], [paths[0::2], paths[1::2]]))


def pack(manifest: Path, root: Path, out: Path, num_workers: int) -> None:
    """Make a pack and throw it away."""
    config = PackConfig(spec=ImageSpec.square(SIZE_PX), num_workers=num_workers)
    summary = pack_manifest(manifest, root=root, out=out, config=config)
    assert not summary.pack.rejected
    shutil.rmtree(out)


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


def draw_films(folder: Path) -> Path:
    """Write films as PNGs: a smooth picture with grain; return their folder."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(NUM_FILES):
        coarse = Image.fromarray(rng.integers(20, 235, (12, 12), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((SOURCE_PX, SOURCE_PX), Image.Resampling.BICUBIC), np.float32)
        film = smooth + rng.normal(0, 0.7, smooth.shape)
        Image.fromarray(film.clip(0, 255).round().astype(np.uint8)).save(folder / f"{number:04d}.png")
    return folder


def write_manifest(path: Path, paths: Sequence[str]) -> Path:
    """Write a manifest of these image files, which may repeat."""
    count = len(paths)
    text, number = pa.string(), pa.int32()
    columns = {
        "dataset": pa.array(["films"] * count),
        "image_id": pa.array([str(index) for index in range(count)]),
        "path": pa.array(paths),
        "patient_id": pa.array([f"films:{index}" for index in range(count)]),
        "study_id": pa.nulls(count, text),
        "view": pa.nulls(count, text),
        "sex": pa.nulls(count, text),
        "age_years": pa.nulls(count, pa.float32()),
        "split": pa.array(["train"] * count),
        "width": pa.nulls(count, number),
        "height": pa.nulls(count, number),
    }
    about = {"schema_version": SCHEMA_VERSION, "dataset": "films"}
    pq.write_table(pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(about)}), path)
    return path


def report(contenders: Sequence[Contender], measured: dict[str, list[Run]], *, num_images: int, source: str) -> None:
    """Print images a second, the share of the peer with as many processes, and the gain over one; append the rows."""
    rates = {name: summarise([num_images / run.wall_s for run in runs]) for name, runs in measured.items()}
    print(f"{num_images} images, {source}, to {SIZE_PX} px; images/s: median (min to max)")
    for contender in contenders:
        rate = rates[contender.name]
        of_peer = rate.median / rates[f"{PEER} x{contender.num_processes}"].median
        of_one = rate.median / rates[f"{contender.kind} x1"].median
        cpu_ms = summarise([1000 * run.cpu_s / num_images for run in measured[contender.name]]).median
        print(
            f"{contender.name:16} {rate.median:6.1f} ({rate.min:.1f} to {rate.max:.1f}), "
            f"{of_peer:.2f} of the bare loop, {of_one:.2f} times one process, "
            f"{cpu_ms:.2f} ms of processor an image"
        )
        append_row(
            RESULTS / "pack.csv",
            {
                "pillow": metadata.version("pillow"),
                "contender": contender.kind,
                "num_processes": contender.num_processes,
                "source": source,
                "num_images": num_images,
                "runs": len(measured[contender.name]),
                "images_per_s": f"{rate.median:.1f}",
                "images_per_s_min": f"{rate.min:.1f}",
                "images_per_s_max": f"{rate.max:.1f}",
                "of_bare_loop": f"{of_peer:.3f}",
                "of_one_process": f"{of_one:.3f}",
                "cpu_ms_per_image": f"{cpu_ms:.2f}",
            },
        )


if __name__ == "__main__":
    main()
