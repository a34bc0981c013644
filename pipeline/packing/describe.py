"""The files that describe a pack whose shards are all finished; pack.json comes last."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.atomic import write_bytes_atomically
from pipeline.pack import CHECKSUMS_FILE, MANIFEST_FILE, PACK_FILE, REJECTED_FILE, Pack, Shard
from pipeline.packing.checksums import read_rows
from pipeline.packing.formats import FORMATS
from pipeline.packing.join import join_shards
from pipeline.packing.partial import PartialPack
from pipeline.packing.pixels import PIXEL_RULE
from pipeline.packing.plan import PackPlan
from pipeline.packing.shard import PackedShard
from pipeline.packing.shard_format import ShardLayout

REJECTED_SCHEMA = pa.schema(
    [
        ("sample_index", pa.int64()),
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("reason", pa.string()),
        ("num_bytes", pa.int64()),
        ("detail", pa.string()),
    ]
)
CHECKSUMS_SCHEMA = pa.schema([("offset", pa.int64()), ("num_bytes", pa.int64()), ("crc32", pa.uint32())])


def describe(plan: PackPlan, shards: Sequence[PackedShard], partial: PartialPack) -> Pack:
    """Join the shards where the format wants it, write what describes them; return the pack as it will be in `out`.

    Args:
        plan: what was packed.
        shards: all of them, in order of sample_index.
        partial: where they lie.

    Raises:
        OSError: something cannot be written.
    """
    joiner = FORMATS[plan.config.format].joined
    pack_shards = tuple(map(_shard_of, shards))
    begins: Sequence[int] = [0] * len(shards)
    if joiner is not None:
        layout = ShardLayout(
            spec=plan.config.spec,
            encoding=plan.config.encoding,
            num_samples=plan.num_samples,
            num_targets=len(plan.target_names),
        )
        joined, begins = join_shards(joiner, shards, layout, parts=partial.parts, pack=partial.pack)
        pack_shards = (joined,)
    rejected = [image for shard in shards for image in shard.rejected]
    image_ids = plan.table.column("image_id")
    rows = [
        asdict(image) | {"image_id": image_ids[image.sample_index].as_py(), "path": plan.path_of(image.sample_index)}
        for image in rejected
    ]
    pack = Pack(
        folder=partial.out,
        format=plan.config.format,
        spec=plan.config.spec,
        encoding=plan.config.encoding,
        pixel_rule=PIXEL_RULE,
        dataset=plan.dataset,
        identity=plan.identity,
        num_samples=plan.num_samples,
        rejected=tuple(image.sample_index for image in rejected),
        shards=pack_shards,
        manifest_sha256=_write_parquet(partial.pack / MANIFEST_FILE, plan.table),
        rejected_sha256=_write_parquet(
            partial.pack / REJECTED_FILE, pa.Table.from_pylist(rows, schema=REJECTED_SCHEMA)
        ),
        checksums_sha256=_write_parquet(
            partial.pack / CHECKSUMS_FILE, _checksums_of(partial, shards, begins), use_dictionary=False
        ),
        target_names=plan.target_names,
    )
    write_bytes_atomically(partial.pack / PACK_FILE, pack.to_json())
    return pack


def _shard_of(packed: PackedShard) -> Shard:
    """Return what pack.json says about a finished shard."""
    return Shard(
        file=packed.file,
        first_index=packed.first_index,
        num_samples=packed.num_samples,
        num_bytes=packed.num_bytes,
        checksum=packed.checksum,
        side_files=packed.side_files,
    )


def _write_parquet(path: Path, table: pa.Table, *, use_dictionary: bool = True) -> str:
    """Write a table whole or not at all; return the file's sha256."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", use_dictionary=use_dictionary)
    write_bytes_atomically(path, buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def _checksums_of(partial: PartialPack, shards: Sequence[PackedShard], begins: Sequence[int]) -> pa.Table:
    """Return the checksums of all samples; a shard's first byte lies at `begins` of its file."""
    tables = []
    for number, (shard, begin) in enumerate(zip(shards, begins, strict=True)):
        rows = read_rows(partial.checksums_file(number), shard.num_samples)
        tables.append(pa.table([rows["offset"] + begin, rows["num_bytes"], rows["crc32"]], schema=CHECKSUMS_SCHEMA))
    return pa.concat_tables(tables)
