"""What the benchmark of loaders reads: films drawn and packed in every format, and FFCV's own betons of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from pipeline.image_spec import ImageSpec
from pipeline.pack import Pack, open_pack
from pipeline.pack_format import PackFormat
from pipeline.packing.config import PackConfig
from pipeline.packing.packer import pack_manifest
from tools import ffcv_peer
from tools.pack_films import NUM_FILES, as_jpegs, draw_films, write_manifest

NUM_WORKERS = 2


@dataclass(frozen=True, kw_only=True)
class Films:
    """A few films again and again, as many as asked for, all of one size."""

    folder: Path
    """Everything lies here."""

    size_px: int
    """Side of the JPEGs and of all that is made of them."""

    files: tuple[Path, ...]
    """The gray JPEG of each sample."""

    def pack(self, pack_format: PackFormat) -> Pack:
        """Return a pack of them, as `cxr-prep pack` makes it; a tar keeps the bytes of the JPEGs."""
        out = self.folder / f"pack-{pack_format}"
        if not out.exists():
            manifest = write_manifest(self.folder / "films.parquet", [path.name for path in self.files])
            config = PackConfig(format=pack_format, spec=ImageSpec.square(self.size_px), num_workers=NUM_WORKERS)
            pack_manifest(manifest, root=self.files[0].parent, out=out, config=config)
        return open_pack(out)

    def ffcv_beton(self, kind: Literal["rgb", "rgb-raw"]) -> Path:
        """Return FFCV's own beton of them, colour images as JPEG or as pixels."""
        out = self.folder / f"ffcv-{kind}.beton"
        if not out.exists():
            ffcv_peer.write(self.files, out, kind=kind, size_px=self.size_px, num_workers=NUM_WORKERS)
        return out


def draw(folder: Path, *, num_images: int, size_px: int, num_distinct: int = NUM_FILES) -> Films:
    """Draw films, so many distinct ones (64 at most), as gray JPEGs of `size_px`."""
    folder.mkdir(parents=True)
    drawn = draw_films(folder / "drawn", num_distinct)
    for path in drawn.glob("*.png"):
        with Image.open(path) as image:
            small = image.resize((size_px, size_px), Image.Resampling.BILINEAR)
        small.save(path)
    distinct = sorted(as_jpegs(drawn, folder / "jpeg").glob("*.jpg"))
    files = tuple(distinct[number % len(distinct)] for number in range(num_images))
    return Films(folder=folder, size_px=size_px, files=files)
