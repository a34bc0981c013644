"""Packs of a few films of a few pixels, and what is in them."""

from pathlib import Path

from pipeline.image_spec import ImageSpec
from pipeline.packing.config import PackConfig
from pipeline.packing.outcome import PackSummary
from pipeline.packing.packer import pack_manifest

SIZE_PX = 6


def pack_into(out: Path, release: Path, **options: object) -> PackSummary:
    config = PackConfig(**({"spec": ImageSpec.square(SIZE_PX)} | options))  # type: ignore[arg-type]
    return pack_manifest(release.parent / "nih.parquet", root=release, out=out, config=config)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
