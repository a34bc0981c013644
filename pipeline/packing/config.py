"""What the user chooses about a pack."""

from dataclasses import dataclass, field
from typing import Literal

from manifests.errors import ConfigError
from pipeline.encoding import Encoding, refuse_meaningless
from pipeline.image_spec import ImageSpec
from pipeline.pack_format import PackFormat
from pipeline.packing.formats import FORMATS
from pipeline.packing.rejects import RejectLimit
from pipeline.packing.shard_range import ShardRange

Engine = Literal["local", "ray"]
KeptCheck = Literal["full", "none"]


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

    max_rejects: RejectLimit | None = None
    """More rejected images stop the run; None: none does."""

    engine: Engine = "local"
    """`local`: processes of this machine; `ray`: tasks of a Ray cluster on a shared file system."""

    num_workers: int = 1
    """Processes that decode; at 1 it is this one. It never changes a byte of the pack. A Ray cluster that runs already
    has its own number."""

    resume: bool = False
    """Continue an interrupted pack instead of refusing to touch it."""

    verify: KeptCheck = "full"
    """How shards that are there already are looked over: `full` reads them and compares their checksums, `none` only
    compares their sizes."""

    shard_range: ShardRange | None = None
    """Pack this share of the shards only; `finish` makes the pack of all shares."""

    finish: bool = False
    """Make the pack of shards that are all there already."""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ConfigError(f"--format {self.format}: expected {', '.join(FORMATS)}")
        plain = Encoding()
        changed = [name for name in vars(plain) if getattr(self.encoding, name) != getattr(plain, name)]
        refuse_meaningless(self.format, self.encoding, changed)
        if self.spec.bits == 16 and (self.format != "tar" or self.encoding.image != "png"):
            raise ConfigError(
                f"--bits 16: format {self.format} stores 8 bits; only --format tar --image png stores 16"
                if self.format != "tar"
                else "--bits 16: a JPEG stores 8 bits; add --image png"
            )
        if self.num_workers < 1:
            raise ConfigError(f"--workers {self.num_workers}: expected 1 or more")
        if self.finish and self.shard_range is not None:
            raise ConfigError("--finish joins what all ranges have packed; take away --shard-range")
        if self.engine == "ray" and (self.finish or self.shard_range is not None):
            raise ConfigError("--engine ray shares out the shards itself; take away --shard-range and --finish")
