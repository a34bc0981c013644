"""What the user chooses about a pack."""

from dataclasses import dataclass, field

from manifests.errors import ConfigError
from pipeline.encoding import Encoding
from pipeline.image_spec import ImageSpec
from pipeline.pack_format import PackFormat
from pipeline.packing.formats import shard_format


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """Options of `cxr-prep pack`; the first four are part of what the pack is, the others of how it is made."""

    format: PackFormat = "raw"
    """How the pixels are stored."""

    spec: ImageSpec = field(default_factory=lambda: ImageSpec.square(256))
    """What every image becomes."""

    encoding: Encoding = field(default_factory=Encoding)
    """How the format stores it."""

    splits: tuple[str, ...] = ()
    """Rows of these splits are packed; all rows where it is empty."""

    num_workers: int = 1
    """Processes that decode; at 1 it is this one. It never changes a byte of the pack."""

    resume: bool = False
    """Continue an interrupted pack instead of refusing to touch it."""

    def __post_init__(self) -> None:
        shard_format(self.format)
        if self.num_workers < 1:
            raise ConfigError(f"--workers {self.num_workers}: expected 1 or more")
