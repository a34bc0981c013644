"""How a format stores images, as far as the user chooses it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from manifests.errors import ConfigError
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

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"--quality {self.quality}: expected 1 to 100")


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


OPTIONS = {"image": "--image", "quality": "--quality", "colour": "--colour", "targets": "--with-targets"}
"""Field of `Encoding` -> option of `cxr-prep pack`."""

REASONS: dict[PackFormat, str] = {
    "raw": "raw stores gray pixels as they are, and nothing else",
    "tar": "tar stores one gray image a sample, as JPEG or PNG",
    "beton": "beton stores pixels as they are, gray or RGB",
}
"""Format -> why it does not know an option."""


def refuse_meaningless(pack_format: PackFormat, encoding: Encoding, given: Iterable[str]) -> None:
    """Return if each of the fields `given` says something about how `pack_format` stores images.

    Raises:
        ConfigError: one does not.
    """
    for name in given:
        if name not in MEANINGFUL[pack_format]:
            knowing = " or ".join(f"--format {other}" for other, names in MEANINGFUL.items() if name in names)
            raise ConfigError(f"{OPTIONS[name]} means nothing here: {REASONS[pack_format]}; it belongs to {knowing}")
        if name == "quality" and encoding.image == "png":
            raise ConfigError("--quality means nothing here: a PNG loses nothing; it belongs to --image jpg")
