"""The real films in every format: packed, read back by the readers of other tools, compared with Pillow's pixels."""

import csv
import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from manifests.label_spaces import NIH14
from pipeline.beton import read_beton
from pipeline.encoding import Encoding
from pipeline.image_spec import ImageSpec
from pipeline.pack import Pack
from pipeline.pack_format import PackFormat
from pipeline.packing.config import PackConfig
from pipeline.packing.packer import pack_manifest
from pipeline.packing.verify import verify_pack
from tests.ffcv_peer import run_ffcv
from tests.foreign_readers import Found, found_by_ffcv, psnr_db, read_with_dali, read_with_webdataset
from tests.pipeline.test_pack_real import manifest_of

SIZES = {"images_64": (64, 64, 1000), "images_1024": (320, 256, 112)}
"""Folder of films -> height and width of the pack's images, and how many there are."""

PACKS: Mapping[str, tuple[PackFormat, Encoding]] = {
    "raw": ("raw", Encoding()),
    "jpg": ("tar", Encoding()),
    "png": ("tar", Encoding(image="png")),
    "beton": ("beton", Encoding(targets="nih14")),
}

MIN_PSNR_DB = {"images_64": (42.5, 44.7), "images_1024": (47.0, 49.3)}
"""JPEGs of quality 95: the worst film, and the mean of all."""

MAX_DALI_DIFFERENCE = 1
"""DALI's CPU decoder and Pillow's, on the same JPEGs, in gray levels; 0 with DALI 2.4.0 and Pillow 13.0.0."""


class RealPacks:
    """The films of one folder in all formats, and what Pillow says that their pixels are."""

    def __init__(self, folder: Path, data: Path, images: str) -> None:
        self.images = images
        height_px, width_px, self.num_images = SIZES[images]
        root = data / "nih" / images
        label_file = data / "nih" / "Data_Entry_2017_v2020.csv.gz"
        names = manifest_of(root, label_file, folder / "nih.parquet")
        self.present_NC = add_findings(folder / "nih.parquet", label_file, names)
        self.pixels_NHW = np.stack([pillow_pixels(root / name, height_px, width_px) for name in names])
        self.packs: dict[str, Pack] = {}
        for name, (pack_format, encoding) in PACKS.items():
            config = PackConfig(
                format=pack_format,
                encoding=encoding,
                spec=ImageSpec(height_px=height_px, width_px=width_px),
                num_workers=2,
            )
            self.packs[name] = pack_manifest(folder / "nih.parquet", root=root, out=folder / name, config=config).pack
        self.by_ffcv: Found = {}

    @property
    def beton(self) -> Path:
        pack = self.packs["beton"]
        return pack.shard_path(pack.shards[0])


def add_findings(manifest: Path, label_file: Path, names: list[str]) -> np.ndarray:
    """Give a manifest a column for each of the 14 findings, as the label file has them; return them, bool [N, 14]."""
    with gzip.open(label_file, "rt") as lines:
        cells = {row[0]: row[1].split("|") for row in csv.reader(lines)}
    present_NC = np.array([[finding in cells[name] for finding in NIH14.findings] for name in names])
    table = pq.read_table(manifest)
    for finding, present_N in zip(NIH14.findings, present_NC.T, strict=True):
        table = table.append_column(finding, pa.array(present_N.astype(np.int8)))
    pq.write_table(table, manifest)
    return present_NC


def pillow_pixels(path: Path, height_px: int, width_px: int) -> np.ndarray:
    """Return the pixels of a film by Pillow alone, uint8 [height_px, width_px]."""
    with Image.open(path) as image:
        gray = image.convert("L")
    return np.asarray(gray.resize((width_px, height_px), Image.Resampling.BILINEAR))


@pytest.fixture(scope="module")
def all_real(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RealPacks]:
    """Both folders of films, their betons read by one process of FFCV."""
    folder = tmp_path_factory.mktemp("real")
    reals, jobs = {}, []
    for images in SIZES:
        (folder / images).mkdir()
        reals[images] = RealPacks(folder / images, real_data, images)
        out = folder / images / "ffcv.npz"
        jobs.append(
            {"job": "read", "beton": str(reals[images].beton), "out": str(out), "os_cache": True, "random": True}
        )
    run_ffcv(folder, jobs)
    for images, real in reals.items():
        real.by_ffcv = found_by_ffcv(folder / images / "ffcv.npz")
    return reals


@pytest.fixture(params=SIZES)
def real(request: pytest.FixtureRequest, all_real: dict[str, RealPacks]) -> RealPacks:
    return all_real[request.param]


def test_every_film_is_there_and_every_pack_is_sound(real: RealPacks) -> None:
    assert len(real.pixels_NHW) == real.num_images
    for pack in real.packs.values():
        assert pack.rejected == ()
        verify_pack(pack.folder, decode=True)


def test_raw_and_beton_hold_pillows_pixels(real: RealPacks) -> None:
    raw = real.packs["raw"]
    raw_NHW = np.concatenate([np.load(raw.shard_path(shard)) for shard in raw.shards])
    np.testing.assert_array_equal(raw_NHW, real.pixels_NHW)
    pack = real.packs["beton"]
    layout = read_beton(real.beton, pack.spec, pack.encoding, pack.num_samples)
    content = np.fromfile(real.beton, np.uint8)
    for index, offset in enumerate(layout.image_offsets().tolist()):
        np.testing.assert_array_equal(content[offset : offset + layout.image_bytes], real.pixels_NHW[index].reshape(-1))


def test_ffcv_finds_pillows_pixels_and_the_targets_of_the_manifest(real: RealPacks) -> None:
    assert real.packs["beton"].target_names == NIH14.findings
    assert real.present_NC.any(axis=0).sum() > 10
    assert set(real.by_ffcv) == set(range(real.num_images))
    for index, (image_HW, targets_C) in real.by_ffcv.items():
        np.testing.assert_array_equal(image_HW, real.pixels_NHW[index])
        np.testing.assert_array_equal(targets_C, real.present_NC[index])


def test_dali_and_webdataset_find_pillows_pixels_in_pngs(real: RealPacks) -> None:
    for found in (read_with_dali(real.packs["png"]), read_with_webdataset(real.packs["png"])):
        assert set(found) == set(range(real.num_images))
        for index, (image_HW, _) in found.items():
            np.testing.assert_array_equal(image_HW, real.pixels_NHW[index])


def test_dali_and_webdataset_find_pillows_pixels_in_jpegs_within_their_loss(real: RealPacks) -> None:
    by_dali, by_webdataset = read_with_dali(real.packs["jpg"]), read_with_webdataset(real.packs["jpg"])
    assert set(by_dali) == set(by_webdataset) == set(range(real.num_images))
    worst_db, mean_db = MIN_PSNR_DB[real.images]
    psnr_N = [psnr_db(image_HW, real.pixels_NHW[index]) for index, (image_HW, _) in by_webdataset.items()]
    assert min(psnr_N) > worst_db
    assert np.mean(psnr_N) > mean_db
    for index, (image_HW, _) in by_dali.items():
        difference_HW = image_HW.astype(int) - by_webdataset[index][0]
        assert np.abs(difference_HW).max() <= MAX_DALI_DIFFERENCE
