"""Films for the packing benchmarks: drawn or real, as PNG and as JPEG, and a manifest that goes through them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from manifests.schema import METADATA_KEY, SCHEMA_VERSION

SOURCE_PX = 1024
NUM_FILES = 64
"""Films that are drawn; the list of images goes through them again and again."""

QUALITY = 95
"""Of the JPEGs."""


def draw_films(folder: Path, at_most: int = NUM_FILES) -> Path:
    """Write films as PNGs, no more than are asked for: a smooth picture with grain; return their folder."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(min(at_most, NUM_FILES)):
        coarse = Image.fromarray(rng.integers(20, 235, (12, 12), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((SOURCE_PX, SOURCE_PX), Image.Resampling.BICUBIC), np.float32)
        film = smooth + rng.normal(0, 0.7, smooth.shape)
        Image.fromarray(film.clip(0, 255).round().astype(np.uint8)).save(folder / f"{number:04d}.png")
    return folder


def as_jpegs(films: Path, folder: Path) -> Path:
    """Write the films of a folder of PNGs as gray JPEGs; return their folder."""
    folder.mkdir()
    for path in sorted(films.glob("*.png")):
        with Image.open(path) as image:
            image.convert("L").save(folder / f"{path.stem}.jpg", quality=QUALITY)
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
