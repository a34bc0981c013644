"""Other labels come to the images by name, whatever their order and however many more there are."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from manifests.build import BuildConfig, build_manifest
from manifests.errors import ManifestError
from manifests.findings import FINDINGS
from manifests.table import ManifestTable, labels_NC, read_manifest
from tests.factories import make_manifest
from trainer.relabel import relabelled


def rows(table: ManifestTable, index: list[int]) -> ManifestTable:
    return ManifestTable(table=table.table.take(pa.array(index, pa.int64())), metadata=table.metadata)


def test_labels_follow_the_images_and_not_the_rows(tmp_path: Path) -> None:
    images = read_manifest(make_manifest(tmp_path, num_images=40))
    order = np.random.default_rng(0).permutation(40).tolist()
    again = relabelled(images, rows(images, order))
    for mine, theirs in zip(labels_NC(images, FINDINGS), labels_NC(again, FINDINGS), strict=True):
        assert np.array_equal(mine, theirs)


def test_what_has_no_other_label_is_not_labelled(tmp_path: Path) -> None:
    images = read_manifest(make_manifest(tmp_path, num_images=40))
    _, labelled_NC = labels_NC(relabelled(images, rows(images, list(range(10, 30)))), ("Effusion", "Mass"))
    assert labelled_NC.all(axis=1).tolist() == [10 <= index < 30 for index in range(40)]
    others = images.table.drop_columns(["Effusion"])
    again = relabelled(images, ManifestTable(table=others, metadata=images.metadata))
    assert not labels_NC(again, ("Effusion",))[1].any()
    assert labels_NC(again, ("Mass",))[1].all()


def test_the_same_name_in_another_dataset_is_another_image(tmp_path: Path) -> None:
    images = read_manifest(make_manifest(tmp_path, num_images=40))
    position = images.table.column_names.index("dataset")
    elsewhere = images.table.set_column(position, "dataset", pa.array(["openi"] * 40))
    with pytest.raises(ManifestError, match="no image in common"):
        relabelled(images, ManifestTable(table=elsewhere, metadata=images.metadata))


def test_the_whole_real_label_file_gives_the_1000_images_their_own_labels(real_data: Path, tmp_path: Path) -> None:
    def manifest(name: str, *, images: str | None, allow_missing_images: bool) -> ManifestTable:
        out = tmp_path / f"{name}.parquet"
        root = real_data / "nih"
        config = BuildConfig(
            dataset="nih", root=root, out=out, images=images, allow_missing_images=allow_missing_images
        )
        build_manifest(config)
        return read_manifest(out)

    packed = manifest("packed", images="images_64", allow_missing_images=False)
    whole = manifest("whole", images="images_64", allow_missing_images=True)
    assert (packed.num_rows, whole.num_rows) == (1000, 112_120)
    again = relabelled(packed, whole)
    for mine, theirs in zip(labels_NC(packed, FINDINGS), labels_NC(again, FINDINGS), strict=True):
        assert np.array_equal(mine, theirs)
