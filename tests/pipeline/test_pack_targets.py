"""`--with-targets`: what samples carry for foreign readers is what a label space says, NaN where it says nothing."""

import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.errors import ConfigError
from manifests.label_spaces import label_space
from manifests.selection import select
from manifests.table import read_manifest
from pipeline.encoding import Encoding
from pipeline.errors import PackError
from pipeline.image_spec import ImageSpec
from pipeline.pack import open_pack
from pipeline.packing.config import PackConfig
from pipeline.packing.packer import pack_manifest
from pipeline.packing.targets import targets_of
from tests.factories import finding_labels, image_names, make_manifest, make_release

NUM_IMAGES = 70
SIZE_PX = 8


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Its images 5 and 6 are not labelled for Mass."""
    path = make_manifest(tmp_path, num_images=NUM_IMAGES)
    table = pq.read_table(path)
    mass = table.column("Mass").to_pylist()
    mass[5] = mass[6] = None
    position = table.column_names.index("Mass")
    pq.write_table(table.set_column(position, "Mass", pa.array(mass, pa.int8())), path)
    return path


def test_targets_are_the_labels_and_nan_where_null(manifest: Path) -> None:
    names, targets_NC = targets_of(read_manifest(manifest), "nih14")
    cells = finding_labels(NUM_IMAGES)
    assert names == label_space("nih14").findings
    assert targets_NC.dtype == np.float32
    expected = np.array([[name in cell.split("|") for name in names] for cell in cells], np.float32)
    expected[[5, 6], names.index("Mass")] = np.nan
    np.testing.assert_array_equal(targets_NC, expected)


def test_rows_that_the_label_space_leaves_out_are_nan(manifest: Path) -> None:
    table = read_manifest(manifest)
    _, targets_NC = targets_of(table, "nvum-nih")
    inside = select(table, label_space("nvum-nih"), None).sample_index_n
    outside = np.setdiff1d(np.arange(NUM_IMAGES), inside)
    assert len(outside) > 0
    assert np.isnan(targets_NC[outside]).all()
    assert not np.isnan(targets_NC[inside]).all(axis=1).any()


def test_samples_carry_their_own_targets(manifest: Path, tmp_path: Path) -> None:
    root = make_release(tmp_path, num_images=NUM_IMAGES, size_px=SIZE_PX)
    (root / "images" / image_names(NUM_IMAGES)[3]).unlink()
    config = PackConfig(format="tar", spec=ImageSpec.square(SIZE_PX), encoding=Encoding(targets="nih14"), num_workers=2)
    pack_manifest(manifest, root=root, out=tmp_path / "pack", config=config)
    pack = open_pack(tmp_path / "pack")
    names, targets_NC = targets_of(read_manifest(manifest), "nih14")
    assert pack.target_names == names
    assert pack.encoding.targets == "nih14"
    found = {}
    for shard in pack.shards:
        with tarfile.open(pack.shard_path(shard)) as tar:
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None
                if member.name.endswith(".targets"):
                    found[int(member.name.partition(".")[0])] = np.frombuffer(content.read(), "<f4")
    assert sorted(found) == [index for index in range(NUM_IMAGES) if index != 3]
    for index, targets_C in found.items():
        np.testing.assert_array_equal(targets_C, targets_NC[index])


def test_changed_labels_are_another_pack(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_release(tmp_path, num_images=NUM_IMAGES, size_px=SIZE_PX)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def pack(resume: bool) -> None:
        encoding = Encoding(targets="nih14")
        config = PackConfig(format="tar", spec=ImageSpec.square(SIZE_PX), encoding=encoding, resume=resume)
        pack_manifest(manifest, root=root, out=tmp_path / "pack", config=config)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.packing.packer.describe", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pack(resume=False)
    make_manifest(tmp_path, num_images=NUM_IMAGES)  # now labelled for Mass
    with pytest.raises(PackError, match=r"targets_sha256 was .*, is now"):
        pack(resume=True)


def test_an_unknown_label_space_is_refused_before_anything_is_written(manifest: Path, tmp_path: Path) -> None:
    config = PackConfig(format="tar", encoding=Encoding(targets="nih41"))
    with pytest.raises(ConfigError, match="nih41"):
        pack_manifest(manifest, root=tmp_path, out=tmp_path / "pack", config=config)
    assert sorted(tmp_path.iterdir()) == [manifest]
