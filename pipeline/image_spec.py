"""What every image of a pack is: its size, how it is fitted into it, its depth."""

from dataclasses import dataclass
from typing import Literal

from manifests.errors import ConfigError

Resize = Literal["square", "pad", "short-side"]
MAX_SIZE_PX = 8192


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """Part of what a pack is: recorded in pack.json and in the plan of an interrupted pack."""

    height_px: int
    """Rows of every image."""

    width_px: int
    """Columns of every image."""

    resize: Resize = "square"
    """How an image is fitted: `square` stretches it to height x width, `pad` scales it until it fits and centres it on
    0, `short-side` scales it until it covers and cuts out the centre."""

    bits: Literal[8, 16] = 8
    """Depth of a pixel; 16 for PNG in `tar` only."""

    exact: bool = False
    """Decode JPEG sources in full, not at the smallest sufficient scale."""

    def __post_init__(self) -> None:
        if not (1 <= self.height_px <= MAX_SIZE_PX and 1 <= self.width_px <= MAX_SIZE_PX):
            raise ConfigError(f"--size {self.size}: expected 1 to {MAX_SIZE_PX} px")

    @classmethod
    def square(cls, size_px: int) -> "ImageSpec":
        """Return the spec of images of size_px x size_px, everything else by default."""
        return cls(height_px=size_px, width_px=size_px)

    @property
    def size(self) -> str:
        """Size as the option `--size` takes it: `256`, or `320x256` for 320 rows of 256 columns."""
        return str(self.height_px) if self.height_px == self.width_px else f"{self.height_px}x{self.width_px}"

    @property
    def num_pixels(self) -> int:
        """Pixels of an image."""
        return self.height_px * self.width_px
