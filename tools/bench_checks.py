"""What comparing checksums costs the first epoch of a training run.

    python -m tools.bench_checks

Films are packed once as `raw` and as `tar` of JPEGs. Then an epoch is read, again and again, by a loader that was
opened for it, with the checks and without, in turn; every batch is prepared for a model (random resized crop, flip,
normalise), which keeps all cores busy, as training on a CPU does. The check of raw shards runs beside it in a thread of
the lowest priority, and the epoch does not end before it; that of a tar's samples happens when they are read.

Rows go to tools/results/checks.csv; an item is an image.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pipeline.augment import AugmentConfig, augment_params
from pipeline.encoding import Encoding
from pipeline.image_spec import ImageSpec
from pipeline.loaders import LoaderConfig, open_loader
from pipeline.pack import Pack
from pipeline.pack_format import PackFormat
from pipeline.packing.config import PackConfig
from pipeline.packing.packer import pack_manifest
from pipeline.prepare import prepare_images
from tools.benchmark import RESULTS
from tools.interleaved import Part, run_parts
from tools.pack_films import as_jpegs, draw_films, write_manifest

BATCH_SIZE = 64
OUT_SIZE_PX = 224
SEED = 0
BACKENDS: dict[PackFormat, str] = {"raw": "raw", "tar": "dali"}


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-images", type=int, default=4096, help="images of the raw pack (default 4,096)")
    parser.add_argument("--size", type=int, default=256, help="side of a raw image in px (default 256)")
    parser.add_argument("--tar-size", type=int, default=512, help="side of an image in the tar in px (default 512)")
    parser.add_argument("--threads", type=int, default=2, help="threads of loaders and of torch (default 2)")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds (default 7)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes: dict[PackFormat, tuple[int, int]] = {
        "raw": (options.size, options.num_images),
        "tar": (options.tar_size, max(1, options.num_images // 8)),  # decoding takes its time
    }
    with tempfile.TemporaryDirectory(prefix="bench-checks-") as folder:
        root = as_jpegs(draw_films(Path(folder) / "films"), Path(folder) / "jpegs")
        for pack_format, (size_px, num_images) in sizes.items():
            pack = films_pack(Path(folder), root, pack_format, size_px, num_images)
            names = {verify: f"{BACKENDS[pack_format]}, checks {'on' if verify else 'off'}" for verify in (False, True)}
            parts = [
                Part(name, names[False], num_images, "image", first_epoch(pack, verify, options.threads))
                for verify, name in names.items()
            ]
            columns = {"format": pack_format, "size_px": size_px, "num_images": num_images, "threads": options.threads}
            run_parts(parts, rounds=options.rounds, path=RESULTS / "checks.csv", columns=columns)


def films_pack(folder: Path, root: Path, pack_format: PackFormat, size_px: int, num_images: int) -> Pack:
    """Return a pack of the films below `root`, again and again."""
    files = sorted(path.name for path in root.iterdir())
    manifest = write_manifest(folder / f"{pack_format}.parquet", [files[i % len(files)] for i in range(num_images)])
    config = PackConfig(format=pack_format, spec=ImageSpec.square(size_px), encoding=Encoding(), num_workers=2)
    return pack_manifest(manifest, root=root, out=folder / pack_format, config=config).pack


def first_epoch(pack: Pack, verify: bool, num_threads: int) -> Callable[[], int]:
    """Return what opens a loader and prepares every batch of an epoch."""
    config = LoaderConfig(backend=BACKENDS[pack.format], batch_size=BATCH_SIZE, num_threads=num_threads, verify=verify)

    def run() -> int:
        done = 0
        with open_loader(config, pack=pack, sample_index_n=np.arange(pack.num_samples), seed=SEED) as loader:
            for images_B1HW, sample_index_B in (step.batch for step in loader.train_batches(0)):
                params = augment_params(SEED, 0, sample_index_B.numpy(), AugmentConfig.nih())
                prepare_images(images_B1HW, params, OUT_SIZE_PX)
                done += len(sample_index_B)
        return done

    return run


if __name__ == "__main__":
    main()
