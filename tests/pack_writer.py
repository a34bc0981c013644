"""Packs of any format from arrays, written by the formats' own writers without a release; there is no manifest.

Import with `from tests.pack_writer import write_pack`.
"""

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.encoding import Encoding
from pipeline.file_checksum import ALGORITHM, file_checksum
from pipeline.image_spec import ImageSpec
from pipeline.pack import Pack, Shard
from pipeline.pack_files import SideFile
from pipeline.pack_format import PackFormat
from pipeline.packing.beton import BetonFormat
from pipeline.packing.decoded import DecodedImage
from pipeline.packing.raw import RawFormat
from pipeline.packing.shard_format import ShardFormat, ShardLayout
from pipeline.packing.tar import TarFormat

FORMATS: dict[PackFormat, ShardFormat] = {"raw": RawFormat(), "tar": TarFormat(), "beton": BetonFormat()}


def write_pack(
    folder: Path,
    images_NHW: np.ndarray,
    *,
    pack_format: PackFormat,
    encoding: Encoding | None = None,
    targets_NC: np.ndarray | None = None,
    rejected: Collection[int] = (),
    rows_per_shard: int | None = None,
    source_jpegs: dict[int, bytes] | None = None,
) -> Pack:
    """Write images, uint8 (or uint16) [N, H, W], into `folder`; return the pack.

    Without `rows_per_shard`, and where shards are joined, it is cut as `cxr-prep pack` cuts.

    Its checksums are true; those of the manifest and of rejected.parquet, which are not there, are empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoding = encoding or Encoding(targets=None if targets_NC is None else "nih14")
    shard_format = FORMATS[pack_format]
    spec = ImageSpec(
        height_px=images_NHW.shape[1], width_px=images_NHW.shape[2], bits=8 if images_NHW.dtype == np.uint8 else 16
    )

    def layout(num_samples: int) -> ShardLayout:
        num_targets = 0 if targets_NC is None else targets_NC.shape[1]
        return ShardLayout(spec=spec, encoding=encoding, num_samples=num_samples, num_targets=num_targets)

    shards = []
    step = shard_format.samples_per_shard(len(images_NHW), spec, encoding)
    if rows_per_shard is not None and shard_format.joined is None:
        step = rows_per_shard
    for number, first in enumerate(range(0, len(images_NHW), step)):
        path = folder / shard_format.file_name(number)
        num_samples = min(step, len(images_NHW) - first)
        with path.open("wb") as file:
            writer = shard_format.writer(file, layout(num_samples), first)
            for index in range(first, first + num_samples):
                image = DecodedImage(pixels_HW=images_NHW[index], source_jpeg=(source_jpegs or {}).get(index))
                targets_C = None if targets_NC is None else targets_NC[index]
                writer.add(index, None if index in rejected else image, targets_C)
            contents = writer.close()
        side_files = []
        for suffix, content in contents.items():
            path.with_suffix(suffix).write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            side_files.append(SideFile(file=path.with_suffix(suffix).name, num_bytes=len(content), sha256=sha256))
        shards.append(
            Shard(first_index=first, num_samples=num_samples, side_files=tuple(side_files), **_described(path))
        )
    if shard_format.joined is not None:
        parts = [folder / shard.file for shard in shards]
        path = folder / shard_format.joined.file_name
        with path.open("wb") as file:
            shard_format.joined.join(parts, file, layout(len(images_NHW)))
        for part in parts:
            part.unlink()
        shards = [Shard(first_index=0, num_samples=len(images_NHW), **_described(path))]
    return Pack(
        folder=folder,
        format=pack_format,
        spec=spec,
        encoding=encoding,
        pixel_rule="test",
        dataset="test",
        identity="test",
        num_samples=len(images_NHW),
        rejected=tuple(sorted(rejected)),
        shards=tuple(shards),
        manifest_sha256="",
        rejected_sha256="",
    )


def _described(path: Path) -> dict[str, Any]:
    return {
        "file": path.name,
        "num_bytes": path.stat().st_size,
        "checksum": file_checksum(path, like=ALGORITHM),
    }
