"""Who takes part in `tools.bench_pack`: our packer, its peers, and what limits them all.

Each runs in forks of the benchmark's process, which start in milliseconds and leave nothing behind: packing asks the C
library to keep freed memory (`pipeline.packing.heap`), and no peer is to profit from that. What they write stays until
the clock has stopped: deleting files takes long on some disks, and longer the larger they are.
"""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.image_spec import ImageSpec
from pipeline.pack_format import PackFormat
from pipeline.packing.config import PackConfig
from pipeline.packing.heap import keep_freed_memory
from pipeline.packing.packer import pack_manifest
from pipeline.packing.pixels import read_image
from tools import ffcv_peer
from tools.pack_films import write_manifest

LIMIT, DISK, PILLOW, FFCV_RGB, FFCV_GRAY = "limit", "disk", "pillow", "ffcv rgb", "ffcv gray"
PEERS = (LIMIT, DISK, PILLOW, FFCV_RGB, FFCV_GRAY)
NUM_PROCESSES = 2
"""Of the peers; limit and packer run with one as well."""

FILE_BYTES = 64 << 20
"""The disk is measured with files of this size, each flushed, as shards are."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What every contender does in one run."""

    source: str
    """png or jpeg."""

    root: Path
    """Folder of the films."""

    scratch: Path
    """Folder whose `written` is written to."""

    size_px: int
    num_images: int
    """Images of a run with two processes of limit or packer; half as many for everybody else."""

    formats: tuple[PackFormat, ...]

    @property
    def written(self) -> Path:
        """Folder for all that a contender writes, emptied after each run."""
        return self.scratch / "written"

    def paths(self, num_images: int) -> list[Path]:
        """Return the films, again and again."""
        files = sorted(self.root.iterdir())
        return [files[index % len(files)] for index in range(num_images)]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Something that turns films into small images, with so many processes."""

    kind: str
    num_processes: int
    num_images: int
    run: Callable[[int], None]
    """Does it once, with so many images."""

    @property
    def name(self) -> str:
        """What it is called in the table."""
        return f"{self.kind} x{self.num_processes}"


def contenders_of(task: Task) -> list[Contender]:
    """Return who takes part."""
    half = task.num_images // 2
    spec = ImageSpec.square(task.size_px)
    contenders = []
    for count, num_images in ((1, half), (2, task.num_images)):
        limit = partial(in_forks, partial(limit_loop, spec), task, count)
        contenders.append(Contender(kind=LIMIT, num_processes=count, num_images=num_images, run=limit))
    for pack_format in task.formats:
        for count, num_images in ((1, half), (2, task.num_images)):
            config = PackConfig(format=pack_format, spec=spec, num_workers=count)
            packer = partial(pack, task, config)
            contenders.append(Contender(kind=pack_format, num_processes=count, num_images=num_images, run=packer))
    peers: dict[str, Callable[[int], None]] = {
        DISK: partial(in_forks, partial(disk_loop, task.written, task.size_px), task, NUM_PROCESSES),
        PILLOW: partial(in_forks, partial(pillow_loop, task.size_px), task, NUM_PROCESSES),
        FFCV_RGB: partial(ffcv, task, "rgb"),
        FFCV_GRAY: partial(ffcv, task, "gray"),
    }
    for kind, run in peers.items():
        contenders.append(Contender(kind=kind, num_processes=NUM_PROCESSES, num_images=half, run=run))
    return contenders


def limit_loop(spec: ImageSpec, paths: Sequence[Path]) -> None:
    """Decode and resize as packing does, nothing else."""
    keep_freed_memory()
    for path in paths:
        read_image(path, spec)


def pillow_loop(size_px: int, paths: Sequence[Path]) -> None:
    """Decode and resize as anybody would, nothing else."""
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image.convert("L").resize((size_px, size_px), Image.Resampling.BILINEAR))


def disk_loop(folder: Path, size_px: int, paths: Sequence[Path]) -> None:
    """Write as many pixels as `raw` holds, of noise that is there already, and flush them: the disk alone."""
    image = np.random.default_rng(os.getpid()).bytes(size_px * size_px)
    per_file = max(FILE_BYTES // len(image), 1)
    for begin in range(0, len(paths), per_file):
        file_path = folder / f"disk-{os.getpid()}-{begin}"
        with file_path.open("wb") as file:
            for _ in paths[begin : begin + per_file]:
                file.write(image)
            file.flush()
            os.fsync(file.fileno())


def in_forks(loop: Callable[[Sequence[Path]], None], task: Task, num_processes: int, num_images: int) -> None:
    """Run a loop over equal parts of the films at the same time, in forks of this process."""
    paths = task.paths(num_images)
    forks = [
        multiprocessing.get_context("fork").Process(target=loop, args=(paths[rank::num_processes],))
        for rank in range(num_processes)
    ]
    for fork in forks:
        fork.start()
    for fork in forks:
        fork.join()
    assert not any(fork.exitcode for fork in forks)


def pack(task: Task, config: PackConfig, num_images: int) -> None:
    """Make a pack, in a fork."""
    names = [path.name for path in task.paths(num_images)]
    manifest = write_manifest(task.scratch / "films.parquet", names)
    fork = multiprocessing.get_context("fork").Process(target=_pack, args=(manifest, task, config))
    fork.start()
    fork.join()
    assert fork.exitcode == 0


def _pack(manifest: Path, task: Task, config: PackConfig) -> None:
    summary = pack_manifest(manifest, root=task.root, out=task.written / "pack", config=config)
    assert not summary.pack.rejected


def ffcv(task: Task, kind: ffcv_peer.Kind, num_images: int) -> None:
    """Let FFCV write a beton, and flush it as ours are flushed."""
    out = task.written / "peer.beton"
    paths = task.paths(num_images)
    ffcv_peer.write(paths, out, kind=kind, size_px=task.size_px, num_workers=NUM_PROCESSES)
    with out.open("rb") as file:
        os.fsync(file.fileno())
