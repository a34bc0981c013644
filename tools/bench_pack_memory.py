"""Peak memory of packing by the number of images: of `cxr-prep pack`'s own process, and of its largest worker.

    python -m tools.bench_pack_memory [--counts 500,5000]

Small films are drawn once and packed again and again, each pack in a fresh process with two workers. One row a format
and count goes to tools/results/pack_memory.csv.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tools.benchmark import PROJECT, RESULTS, append_row
from tools.pack_films import write_manifest

FORMATS = ("raw", "tar", "beton")
NUM_FILES, SOURCE_PX, SIZE_PX = 32, 512, 256
PACK_CODE = """
import resource, sys
from pathlib import Path
from pipeline.image_spec import ImageSpec
from pipeline.packing.config import PackConfig
from pipeline.packing.packer import pack_manifest
from tools.peak_memory import peak_memory_bytes

manifest, root, out, name, size = sys.argv[1:]
config = PackConfig(format=name, spec=ImageSpec.square(int(size)), num_workers=2)
pack_manifest(Path(manifest), root=Path(root), out=Path(out), config=config)
print(peak_memory_bytes(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""
MIB = 1 << 20


def main() -> None:
    """Measure and append the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="500,5000", help="numbers of images (default 500,5000)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = draw(folder / "films")
        for pack_format in FORMATS:
            for count in map(int, arguments.counts.split(",")):
                manifest = write_manifest(folder / "films.parquet", [names[i % len(names)] for i in range(count)])
                out = folder / f"{pack_format}-{count}"
                parent_mib, worker_mib = peaks(manifest, folder / "films", out, pack_format)
                print(f"{pack_format:6} {count:7,} images: parent {parent_mib:.1f} MiB, worker {worker_mib:.1f} MiB")
                append_row(
                    RESULTS / "pack_memory.csv",
                    {
                        "format": pack_format,
                        "size_px": SIZE_PX,
                        "num_images": count,
                        "parent_mib": f"{parent_mib:.1f}",
                        "worker_mib": f"{worker_mib:.1f}",
                    },
                )


def draw(folder: Path) -> list[str]:
    """Write films of noise; return their names."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = [f"{number:04d}.png" for number in range(NUM_FILES)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (SOURCE_PX, SOURCE_PX), dtype=np.uint8)).save(folder / name)
    return names


def peaks(manifest: Path, root: Path, out: Path, pack_format: str) -> tuple[float, float]:
    """Return the peak memory of the process that packs and of its largest worker, in MiB."""
    command = [sys.executable, "-c", PACK_CODE, str(manifest), str(root), str(out), pack_format, str(SIZE_PX)]
    done = subprocess.run(command, check=True, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    parent, worker = map(int, done.stdout.split())
    return parent / MIB, worker / MIB


if __name__ == "__main__":
    main()
