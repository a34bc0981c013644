"""How a format stores images, as far as the user chooses it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.pack_format import PackFormat


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Options of the formats; `MEANINGFUL` says which format knows which, pack.json records only those."""

    image: Literal["jpg", "png"] = "jpg"
    """`tar`: JPEG with loss, or PNG without."""

    quality: int = 95
    """`tar` of JPEGs: libjpeg's quality, 1 to 100."""

    colour: Literal["gray", "rgb"] = "gray"
    """`beton`: an array [height, width], or FFCV's RGB image in raw mode for users of other FFCV code."""

    targets: str | None = None
    """Label space whose targets each sample carries, float32 [C], NaN where null; for foreign readers."""


MEANINGFUL: dict[PackFormat, tuple[str, ...]] = {
    "raw": (),
    "tar": ("image", "quality", "targets"),
    "beton": ("colour", "targets"),
}
"""Format -> fields of `Encoding` that mean something there."""


def recorded_encoding(pack_format: PackFormat, encoding: Encoding) -> dict[str, Any]:
    """Return the fields that say how `pack_format` stores images; quality is none of PNG."""
    fields = {name: value for name, value in asdict(encoding).items() if name in MEANINGFUL[pack_format]}
    if fields.get("image") == "png":
        del fields["quality"]
    return fields
