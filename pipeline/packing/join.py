"""Making one file of all finished shards, for formats that know no shards."""

from collections.abc import Sequence
from pathlib import Path

from manifests.atomic import atomic_path
from pipeline.pack_files import Shard
from pipeline.packing.checksums import HashingSink
from pipeline.packing.shard import PackedShard
from pipeline.packing.shard_format import Joiner, ShardLayout


def join_shards(
    joiner: Joiner, shards: Sequence[PackedShard], layout: ShardLayout, *, parts: Path, pack: Path
) -> tuple[Shard, Sequence[int]]:
    """Write the joined file of the shards in `parts` into `pack`, whole or not at all.

    Returns:
        The file as the only shard of the pack, and where in it each part begins.

    Raises:
        OSError: it cannot be written.
    """
    path = pack / joiner.file_name
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        sink = HashingSink(file)
        begins = joiner.join([parts / shard.file for shard in shards], sink, layout)
    joined = Shard(
        file=path.name,
        first_index=0,
        num_samples=layout.num_samples,
        num_bytes=sink.num_bytes,
        checksum=str(sink.checksum),
    )
    return joined, begins
