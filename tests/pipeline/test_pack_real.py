"""The real films: packed, verified, and compared with a slow way to the same pixels."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from manifests.schema import METADATA_KEY, SCHEMA_VERSION
from pipeline.image_spec import ImageSpec
from pipeline.packing.config import PackConfig
from pipeline.packing.packer import pack_manifest
from pipeline.packing.verify import verify_pack
from tests.pipeline.test_pixels import naive_luma, naive_resize


def manifest_of(images: Path, label_file: Path, out: Path) -> list[str]:
    """Write a manifest of the films in `images`, in the label file's order; return their names."""
    present = {path.name for path in images.iterdir()}
    with gzip.open(label_file, "rt") as lines:
        names = [name for name in (line.partition(",")[0] for line in lines) if name in present]
    count = len(names)
    columns = {
        "dataset": pa.array(["nih"] * count),
        "image_id": pa.array(names),
        "path": pa.array(names),
        "patient_id": pa.array([f"nih:{int(name[:8])}" for name in names]),
        "study_id": pa.nulls(count, pa.string()),
        "view": pa.nulls(count, pa.string()),
        "sex": pa.nulls(count, pa.string()),
        "age_years": pa.nulls(count, pa.float32()),
        "split": pa.array(["train"] * count),
        "width": pa.nulls(count, pa.int32()),
        "height": pa.nulls(count, pa.int32()),
    }
    metadata = {"schema_version": SCHEMA_VERSION, "dataset": "nih"}
    pq.write_table(pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(metadata)}), out)
    return names


@pytest.mark.parametrize(
    ("images", "size_px", "num_images", "num_rgba"),
    [("images_64", 64, 1000, 21), ("images_64", 128, 1000, 21), ("images_1024", 64, 112, 2)],
)
def test_real_films_keep_their_pixels(
    real_data: Path, tmp_path: Path, images: str, size_px: int, num_images: int, num_rgba: int
) -> None:
    root = real_data / "nih" / images
    names = manifest_of(root, real_data / "nih" / "Data_Entry_2017_v2020.csv.gz", tmp_path / "nih.parquet")
    assert len(names) == num_images
    config = PackConfig(spec=ImageSpec.square(size_px), num_workers=2)
    pack = pack_manifest(tmp_path / "nih.parquet", root=root, out=tmp_path / "pack", config=config).pack
    assert pack.rejected == ()
    assert verify_pack(tmp_path / "pack") == pack

    packed_NSS = np.concatenate([np.load(pack.shard_path(shard)) for shard in pack.shards])
    rgba = []
    for index, name in enumerate(names):
        with Image.open(root / name) as image:
            if image.mode == "RGBA":
                rgba.append(index)
                alpha = np.asarray(image)[..., 3]
                assert alpha.min() == 255  # nothing is lost by ignoring it
    assert len(rgba) == num_rgba
    for index in {*rgba, *range(0, num_images, num_images // 10)}:
        with Image.open(root / names[index]) as image:
            samples = np.asarray(image)
        gray_HW = naive_luma(samples) if samples.ndim == 3 else samples
        assert np.abs(packed_NSS[index] - naive_resize(gray_HW, size_px)).max() <= 1.01


def test_largest_size_keeps_the_stored_film(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "nih" / "images_1024"
    names = manifest_of(root, real_data / "nih" / "Data_Entry_2017_v2020.csv.gz", tmp_path / "nih.parquet")
    table = pq.read_table(tmp_path / "nih.parquet").slice(0, 8)
    pq.write_table(table, tmp_path / "nih.parquet")
    config = PackConfig(spec=ImageSpec.square(1024))
    pack = pack_manifest(tmp_path / "nih.parquet", root=root, out=tmp_path / "pack", config=config).pack
    packed_NSS = np.load(pack.shard_path(pack.shards[0]))
    for index, name in enumerate(names[:8]):
        with Image.open(root / name) as image:
            np.testing.assert_array_equal(packed_NSS[index], np.asarray(image.convert("L")))
