"""Small releases and packs that the tests of every package build from: quick to make, the same for the same arguments.

Import with `from tests.factories import make_pack, make_release`.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from manifests.findings import FINDINGS, NO_FINDING
from manifests.label_spaces import NIH14
from manifests.schema import METADATA_KEY, SCHEMA_VERSION
from pipeline.encoding import Encoding
from pipeline.image_spec import ImageSpec
from pipeline.pack import Pack
from pipeline.pack_format import PackFormat
from pipeline.packing.config import PackConfig
from pipeline.packing.packer import pack_manifest

NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
IMAGES_PER_PATIENT = 2


def image_names(num_images: int) -> list[str]:
    """NIH's names, two images a patient: 00000001_000.png, 00000001_001.png, 00000002_000.png, ..."""
    return [f"{1 + i // IMAGES_PER_PATIENT:08d}_{i % IMAGES_PER_PATIENT:03d}.png" for i in range(num_images)]


def finding_labels(num_images: int) -> list[str]:
    """The `Finding Labels` cell of each image: none, one or two of the 14 findings, each of them in turn."""
    names = NIH14.findings
    cells = []
    for i in range(num_images):
        one, other = names[i % len(names)], names[(i * 5 + 3) % len(names)]
        cells.append([NO_FINDING, one, f"{one}|{other}" if one != other else one][i % 3])
    return cells


def patient_splits(num_images: int) -> list[str]:
    """Official split of each image, by patient: every fourth patient is tested, every fourth (others) validates."""
    return [["train", "valid", "train", "test"][(i // IMAGES_PER_PATIENT) % 4] for i in range(num_images)]


def image_pixels(num_images: int, size_px: int, seed: int = 0) -> np.ndarray:
    """Return the pixels of every image, uint8 [num_images, size_px, size_px]: noise, all of them distinct."""
    return np.random.default_rng(seed).integers(0, 256, (num_images, size_px, size_px), dtype=np.uint8)


def make_release(folder: Path, *, num_images: int = 24, size_px: int = 32, seed: int = 0) -> Path:
    """Write a release in the layout of the NIH download into `folder/release` and return that folder.

    `Data_Entry_2017_v2020.csv`, `train_val_list.txt` and `test_list.txt` (no newline at their end, as released) and
    `images/*.png`, 8-bit gray, square. Patients have two images each; of four patients one is in the test list.
    """
    root = folder / "release"
    (root / "images").mkdir(parents=True)
    names, cells = image_names(num_images), finding_labels(num_images)
    for name, pixels in zip(names, image_pixels(num_images, size_px, seed), strict=True):
        Image.fromarray(pixels).save(root / "images" / name, compress_level=1)
    rows = [
        f"{name},{cell},{i % IMAGES_PER_PATIENT},{1 + i // IMAGES_PER_PATIENT},{20 + i % 60},{'FM'[i % 2]},"
        f"{('PA', 'AP')[i % 2]},{size_px},{size_px},0.143,0.143"
        for i, (name, cell) in enumerate(zip(names, cells, strict=True))
    ]
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join([NIH_HEADER, *rows]) + "\n")
    tested = [split == "test" for split in patient_splits(num_images)]
    for file, wanted in (("train_val_list.txt", False), ("test_list.txt", True)):
        listed = [name for name, test in zip(names, tested, strict=True) if test is wanted]
        (root / file).write_text("\n".join(listed))
    return root


def make_manifest(folder: Path, *, num_images: int = 24) -> Path:
    """Write the manifest that belongs to `make_release(folder, num_images=num_images)`; return its path.

    It is made column by column, without polars or the NIH reader, with a validation split besides the official ones.
    """
    names, cells, splits = image_names(num_images), finding_labels(num_images), patient_splits(num_images)
    columns: dict[str, pa.Array] = {
        "dataset": pa.array(["nih"] * num_images),
        "image_id": pa.array(names),
        "path": pa.array([f"images/{name}" for name in names]),
        "patient_id": pa.array([f"nih:{1 + i // IMAGES_PER_PATIENT}" for i in range(num_images)]),
        "study_id": pa.nulls(num_images, pa.string()),
        "view": pa.array([("PA", "AP")[i % 2] for i in range(num_images)]),
        "sex": pa.array(["FM"[i % 2] for i in range(num_images)]),
        "age_years": pa.array([20 + i % 60 for i in range(num_images)], pa.float32()),
        "split": pa.array(splits),
        "width": pa.nulls(num_images, pa.int32()),
        "height": pa.nulls(num_images, pa.int32()),
    }
    for finding in FINDINGS:
        if finding in NIH14.findings or finding == NO_FINDING:
            columns[finding] = pa.array([int(finding in cell.split("|")) for cell in cells], pa.int8())
    metadata = {"schema_version": SCHEMA_VERSION, "dataset": "nih", "sources": [], "counts": {}, "exclusions": {}}
    path = folder / "nih.parquet"
    pq.write_table(pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(metadata)}), path)
    return path


def make_pack(
    folder: Path,
    *,
    num_images: int = 24,
    size_px: int = 32,
    source_px: int = 0,
    seed: int = 0,
    pack_format: PackFormat = "raw",
    encoding: Encoding | None = None,
) -> Pack:
    """Make a release, its manifest and a pack of it in `folder` (which must be empty); return the open pack.

    `source_px` is the size of the release's images; at 0 they already have the pack's size, so that the pixels of the
    pack equal `image_pixels(num_images, size_px, seed)`.
    """
    root = make_release(folder, num_images=num_images, size_px=source_px or size_px, seed=seed)
    manifest = make_manifest(folder, num_images=num_images)
    config = PackConfig(format=pack_format, spec=ImageSpec.square(size_px), encoding=encoding or Encoding())
    return pack_manifest(manifest, root=root, out=folder / "pack", config=config).pack
