"""Raw packs of any shape, written without a release: for tests that need several shards or many small images."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.encoding import Encoding
from pipeline.file_checksum import ALGORITHM, file_checksum
from pipeline.image_spec import ImageSpec
from pipeline.pack import Pack, Shard


def write_raw_pack(folder: Path, images_NHW: npt.NDArray[np.uint8], *, rows_per_shard: int) -> Pack:
    """Write the shards of `images_NHW` into `folder` and return a pack that describes them; there is no manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for number, first in enumerate(range(0, len(images_NHW), rows_per_shard)):
        rows = images_NHW[first : first + rows_per_shard]
        path = folder / f"shard-{number:05d}.npy"
        np.save(path, rows)
        content = path.read_bytes()
        shards.append(
            Shard(
                file=path.name,
                first_index=first,
                num_samples=len(rows),
                num_bytes=len(content),
                checksum=file_checksum(path, like=ALGORITHM),
            )
        )
    return Pack(
        folder=folder,
        format="raw",
        spec=ImageSpec(height_px=images_NHW.shape[1], width_px=images_NHW.shape[2]),
        encoding=Encoding(),
        pixel_rule="test",
        dataset="test",
        identity="test",
        num_samples=len(images_NHW),
        rejected=(),
        shards=tuple(shards),
        manifest_sha256="",
        rejected_sha256="",
    )


def numbered_images(num_images: int, size_px: int) -> npt.NDArray[np.uint8]:
    """Return uint8 [num_images, size_px, size_px]; the first two pixels say which image it is, the others are noise."""
    assert size_px >= 2
    images_NHW = np.random.default_rng(num_images).integers(0, 256, (num_images, size_px, size_px), dtype=np.uint8)
    images_NHW[:, 0, 0] = np.arange(num_images) // 256
    images_NHW[:, 0, 1] = np.arange(num_images) % 256
    return images_NHW
