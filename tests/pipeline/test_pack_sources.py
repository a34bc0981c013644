"""Packs of files of every format, sound and damaged: the same bytes for one worker and for two, in every format."""

from pathlib import Path

import numpy as np
import pydicom.uid as uid
import pytest

from pipeline.image_spec import ImageSpec
from pipeline.pack import Pack
from pipeline.pack_format import PackFormat
from pipeline.packing.config import PackConfig
from pipeline.packing.packer import pack_manifest
from pipeline.packing.pixels import read_image
from tests.dicom_writer import compressed_by_gdcm, make_dataset
from tests.pipeline.test_sources_stress import DEEP, FILES
from tools.pack_films import write_manifest

SPEC = ImageSpec(height_px=24, width_px=20, resize="pad")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder of files of every format, and a list that goes through them: three shards, one of five files damaged."""
    root = tmp_path_factory.mktemp("mixed")
    contents = [make() for make in FILES.values()]
    contents.append(compressed_by_gdcm(make_dataset(DEEP), uid.JPEGLosslessSV1, tmp_path_factory.mktemp("gdcm")))
    contents += [content[: len(content) * 2 // 3] for content in contents[::4]]
    for index, content in enumerate(contents):
        (root / str(index)).write_bytes(content)
    return root, [str(index % len(contents)) for index in range(150)]


def packed(mixed: tuple[Path, list[str]], folder: Path, name: str, pack_format: PackFormat, num_workers: int) -> Pack:
    root, paths = mixed
    manifest = write_manifest(folder / "films.parquet", paths)
    config = PackConfig(format=pack_format, spec=SPEC, num_workers=num_workers)
    return pack_manifest(manifest, root=root, out=folder / name, config=config).pack


@pytest.mark.parametrize("pack_format", ["raw", "tar", "beton"])
def test_workers_change_no_byte(mixed: tuple[Path, list[str]], tmp_path: Path, pack_format: PackFormat) -> None:
    packs = [packed(mixed, tmp_path, f"{count}", pack_format, count) for count in (1, 2)]
    assert 0 < len(packs[0].rejected) < 75
    one, two = ({path.name: path.read_bytes() for path in sorted(pack.folder.iterdir())} for pack in packs)
    assert one == two


def test_pixels_are_those_of_each_file(mixed: tuple[Path, list[str]], tmp_path: Path) -> None:
    root, paths = mixed
    pack = packed(mixed, tmp_path, "pack", "raw", 2)
    images_NHW = np.concatenate([np.load(pack.shard_path(shard)) for shard in pack.shards])
    for index, path in enumerate(paths[:30]):
        if index in pack.rejected:
            assert not images_NHW[index].any()
        else:
            np.testing.assert_array_equal(images_NHW[index], read_image(root / path, SPEC).pixels_HW)
