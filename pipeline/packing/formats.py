"""The registry of formats: a new one is a module with a class that fulfils `ShardFormat`, and a line here."""

from manifests.errors import ConfigError
from pipeline.pack_format import PackFormat
from pipeline.packing.raw import RawFormat
from pipeline.packing.shard_format import ShardFormat
from pipeline.packing.tar import TarFormat

FORMATS: dict[PackFormat, ShardFormat] = {"raw": RawFormat(), "tar": TarFormat()}
"""Name on the command line and in pack.json -> how its shards are written and checked."""


def shard_format(name: PackFormat) -> ShardFormat:
    """Return the format called `name`.

    Raises:
        ConfigError: this version does not write it.
    """
    if name in FORMATS:
        return FORMATS[name]
    written = " or ".join(FORMATS)
    raise ConfigError(f"pack format {name!r}: not part of this version, which writes {written}; use --format {written}")
