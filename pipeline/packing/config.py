"""What the user chooses about a pack."""

from dataclasses import dataclass

from manifests.errors import ConfigError
from pipeline.pack_format import PackFormat
from pipeline.packing.formats import shard_format

MAX_SIZE_PX = 8192


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """Options of `cxr-prep pack`; the first three are part of what the pack is, the others of how it is made."""

    format: PackFormat = "raw"
    """How the pixels are stored."""

    size_px: int = 256
    """Images become size_px x size_px."""

    splits: tuple[str, ...] = ()
    """Rows of these splits are packed; all rows where it is empty."""

    num_workers: int = 1
    """Processes that decode; at 1 it is this one. It never changes a byte of the pack."""

    resume: bool = False
    """Continue an interrupted pack instead of refusing to touch it."""

    def __post_init__(self) -> None:
        shard_format(self.format)
        if not 1 <= self.size_px <= MAX_SIZE_PX:
            raise ConfigError(f"--size {self.size_px}: expected 1 to {MAX_SIZE_PX} px")
        if self.num_workers < 1:
            raise ConfigError(f"--workers {self.num_workers}: expected 1 or more")
