"""Packing DICOM films: images a second of one core, and bytes an image, for the arithmetic of large packs.

    python -m tools.bench_dicom [--size 512]

Films of 2,544 x 3,056 px and 12 bits are drawn, smooth with grain, and written as DICOM, uncompressed and as lossless
JPEG 2000, the two that large releases mostly come in. For each:

- ``decode``: from the file to gray pixels of the pack's size, and nothing else;
- ``pack``: a shard of format tar with JPEGs of the default quality, its checksums and sidecar included.

Before that it plans a pack of ``--plan-rows`` rows, as each of many machines does when it begins: seconds and memory.

Films are read from the page cache, and processor time is counted, so that waiting for a disk or for other processes is
not part of it. One row a contender and kind goes to tools/results/dicom.csv.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmwrite, uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate

from manifests.table import read_manifest
from pipeline.encoding import Encoding
from pipeline.image_spec import ImageSpec
from pipeline.packing.config import PackConfig
from pipeline.packing.pixels import read_image
from pipeline.packing.plan import make_plan
from pipeline.packing.shard import ShardTask, pack_shard
from tools.benchmark import RESULTS, append_row, summarise
from tools.pack_films import write_manifest
from tools.peak_memory import peak_memory_bytes

HEIGHT_PX, WIDTH_PX, BITS = 3056, 2544, 12
KINDS = {"uncompressed": uid.ExplicitVRLittleEndian, "JPEG 2000 lossless": uid.JPEG2000Lossless}


def main() -> None:
    """Run the benchmark and append its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-images", type=int, default=6, help="films of each kind (default 6)")
    parser.add_argument("--size", type=int, default=512, help="size of the pack's images in px (default 512)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each contender (default 3)")
    parser.add_argument("--plan-rows", type=int, default=1_000_000, help="rows of the plan (default 1,000,000)")
    arguments = parser.parse_args()
    measure_plan(arguments.plan_rows, ImageSpec.square(arguments.size))
    spec = ImageSpec.square(arguments.size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {kind: write_films(folder / kind, kind, arguments.num_images) for kind in KINDS}
        contenders: list[tuple[str, str, Callable[[], object]]] = []
        for kind, paths in files.items():
            contenders += [
                (kind, "decode", partial(decode, paths, spec)),
                (kind, "pack", partial(pack, paths, folder, spec)),
            ]
        times_s: dict[tuple[str, str], list[float]] = {(kind, what): [] for kind, what, _ in contenders}
        for run in range(arguments.runs + 1):
            for kind, what, function in contenders:
                begin_s = time.process_time()
                function()
                if run:
                    times_s[kind, what].append(time.process_time() - begin_s)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as process:
            peak_mib = {kind: process.submit(decode_peak_mib, paths, spec).result() for kind, paths in files.items()}
        packed_kb = {kind: pack(paths, folder, spec) / len(paths) / 1000 for kind, paths in files.items()}
        source_mb = {
            kind: sum(path.stat().st_size for path in paths) / len(paths) / 1e6 for kind, paths in files.items()
        }
    for (kind, what), times in times_s.items():
        rate = summarise([arguments.num_images / time_s for time_s in times])
        print(
            f"{kind}, {source_mb[kind]:.1f} MB, to {arguments.size} px, {what}: {rate.median:.1f} images/s "
            f"({rate.min:.1f} to {rate.max:.1f}), {packed_kb[kind]:.1f} kB an image packed, "
            f"{peak_mib[kind]:.0f} MiB a process"
        )
        append_row(
            RESULTS / "dicom.csv",
            {
                "kind": kind,
                "contender": what,
                "source": f"drawn, {WIDTH_PX} x {HEIGHT_PX} px, {BITS} bits, {source_mb[kind]:.1f} MB",
                "size_px": arguments.size,
                "num_images": arguments.num_images,
                "runs": len(times),
                "images_per_s": f"{rate.median:.2f}",
                "images_per_s_min": f"{rate.min:.2f}",
                "images_per_s_max": f"{rate.max:.2f}",
                "packed_kb_per_image": f"{packed_kb[kind]:.1f}",
                "peak_mib": f"{peak_mib[kind]:.0f}",
            },
        )


def measure_plan(num_rows: int, spec: ImageSpec) -> None:
    """Plan a pack of `num_rows` DICOM files; print and note what it takes."""
    with tempfile.TemporaryDirectory() as name:
        paths = [f"files/p{row // 1000:06d}/s{row // 3:08d}/{row:012d}.dcm" for row in range(num_rows)]
        manifest = write_manifest(Path(name) / "manifest.parquet", paths)
        del paths
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            cost = process.submit(plan_cost, manifest, spec).result()
    print(
        f"plan of {num_rows:,} rows: {cost.time_s:.1f} s, {cost.peak_mib:,.0f} MiB, {cost.num_shards:,} shards of "
        f"{cost.samples_per_shard:,} images"
    )
    append_row(
        RESULTS / "dicom.csv",
        {
            "kind": "manifest",
            "contender": "plan",
            "size_px": spec.size,
            "num_images": num_rows,
            "runs": 1,
            "images_per_s": f"{num_rows / cost.time_s:.0f}",
            "plan_s": f"{cost.time_s:.2f}",
            "plan_mib": f"{cost.peak_mib:.0f}",
        },
    )


class PlanCost(NamedTuple):
    """What a plan took and what it says."""

    time_s: float
    peak_mib: float
    num_shards: int
    samples_per_shard: int


def plan_cost(manifest: Path, spec: ImageSpec) -> PlanCost:
    """Plan a pack in a process of its own; return what it took, memory of the whole process."""
    begin_s = time.process_time()
    plan = make_plan(read_manifest(manifest), manifest, PackConfig(format="tar", spec=spec))
    plan.to_json()
    time_s = time.process_time() - begin_s
    return PlanCost(time_s, peak_memory_bytes() / 2**20, plan.num_shards, plan.samples_per_shard)


def decode(paths: list[Path], spec: ImageSpec) -> None:
    """Decode and resize films, nothing else."""
    for path in paths:
        read_image(path, spec)


def decode_peak_mib(paths: list[Path], spec: ImageSpec) -> float:
    """Decode and resize films in a process of its own; return the most memory that it had."""
    decode(paths, spec)
    return peak_memory_bytes() / 2**20


def pack(paths: list[Path], folder: Path, spec: ImageSpec) -> int:
    """Pack films into one tar shard; return its bytes."""
    task = ShardTask(
        file=folder / "shard-00000.tar",
        checksums=folder / "shard-00000.bin",
        sidecar=folder / "shard-00000.json",
        format="tar",
        spec=spec,
        encoding=Encoding(),
        first_index=0,
        files=tuple(paths),
    )
    packed = pack_shard(task, lambda rejected: None)
    assert not packed.rejected
    return packed.num_bytes


def write_films(folder: Path, kind: str, num_images: int) -> list[Path]:
    """Write films as DICOM files; return their paths."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = []
    for number in range(num_images):
        coarse = Image.fromarray(rng.uniform(200, 3800, (12, 10)).astype(np.float32))
        smooth = np.asarray(coarse.resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC))
        grain = rng.normal(0, 8, smooth.shape).astype(np.float32)
        film = (smooth + grain).clip(0, (1 << BITS) - 1).astype(np.uint16)
        path = folder / f"{number:04d}.dcm"
        path.write_bytes(dicom_file(film, kind))
        paths.append(path)
    return paths


def dicom_file(film: np.ndarray, kind: str) -> bytes:
    """Return a film, uint16 [H, W], as a DICOM file."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = KINDS[kind]
    dataset.file_meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = uid.UID("1.2.3.4")
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.DigitalXRayImageStorageForPresentation, uid.UID("1.2.3.4")
    dataset.Rows, dataset.Columns = film.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, BITS, BITS - 1, 0
    dataset.WindowCenter, dataset.WindowWidth = 2000, 3600
    if kind == "uncompressed":
        dataset.PixelData = film.tobytes()
        dataset["PixelData"].VR = "OW"
    else:
        frame = io.BytesIO()
        Image.fromarray(film).save(frame, "JPEG2000", irreversible=False, no_jp2=True)
        dataset.PixelData = encapsulate([frame.getvalue()])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    content = io.BytesIO()
    dcmwrite(content, dataset, enforce_file_format=True)
    return content.getvalue()


if __name__ == "__main__":
    main()
