"""The registry of formats: a new one is a module with a class that fulfils `ShardFormat`, and a line here."""

from pipeline.pack_format import PackFormat
from pipeline.packing.beton import BetonFormat
from pipeline.packing.raw import RawFormat
from pipeline.packing.shard_format import ShardFormat
from pipeline.packing.tar import TarFormat

FORMATS: dict[PackFormat, ShardFormat] = {"raw": RawFormat(), "tar": TarFormat(), "beton": BetonFormat()}
"""Name on the command line and in pack.json -> how its shards are written and checked."""
