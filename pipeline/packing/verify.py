"""Finding whatever is wrong with a pack: every byte of every file is compared with what pack.json says."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.errors import PackError
from pipeline.pack import MANIFEST_FILE, PACK_FILE, REJECTED_FILE, Pack, Shard, read_pack_json
from pipeline.packing.formats import shard_format
from pipeline.packing.pixels import PIXEL_RULE
from pipeline.packing.shard_format import ShardLayout

CHUNK_BYTES = 1 << 20


def verify_pack(folder: Path, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Pack:
    """Return the pack in `folder` if it is whole and unchanged; `on_progress` gets bytes read and bytes to read.

    Compared: pack.json with its own checksum, checksum and size of every other file, the manifest with the identity,
    the shards' headers, zeros where images were rejected, and rejected.parquet with pack.json.

    Raises:
        PackError: anything differs; all problems together.
    """
    pack = read_pack_json(folder)
    problems = []
    if (folder / PACK_FILE).read_bytes() != pack.to_json():
        problems.append(f"{PACK_FILE}: not as it was written")
    if pack.pixel_rule != PIXEL_RULE:
        problems.append(f"{PACK_FILE}: pixels by rule {pack.pixel_rule}, this version makes them by rule {PIXEL_RULE}")
    problems += _manifest_problems(pack)
    problems += _rejected_problems(pack)
    total, done = sum(shard.num_bytes for shard in pack.shards), 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        on_progress(done, total)

    for shard in pack.shards:
        problems += [f"{shard.file}: {problem}" for problem in _shard_problems(pack, shard, on_bytes)]
    if problems:
        raise PackError("\n  ".join([f"{folder}: {_count(problems)}; restore these files or pack again", *problems]))
    return pack


def _count(problems: list[str]) -> str:
    return "1 problem" if len(problems) == 1 else f"{len(problems)} problems"


def _manifest_problems(pack: Pack) -> list[str]:
    """Return what is wrong with manifest.parquet."""
    problems = _checksum_problems(pack, MANIFEST_FILE, pack.manifest_sha256)
    if problems:
        return problems
    try:
        pack.manifest()
    except PackError as error:
        return [str(error)]
    return []


def _rejected_problems(pack: Pack) -> list[str]:
    """Return what is wrong with rejected.parquet."""
    problems = _checksum_problems(pack, REJECTED_FILE, pack.rejected_sha256)
    if problems:
        return problems
    listed = pq.read_table(pack.folder / REJECTED_FILE, columns=["sample_index"]).column(0).to_pylist()
    if tuple(listed) != pack.rejected:
        return [f"{REJECTED_FILE}: lists {len(listed)} images, {PACK_FILE} {len(pack.rejected)} or others"]
    return []


def _checksum_problems(pack: Pack, file: str, expected: str) -> list[str]:
    """Return what is wrong with a small file's bytes; nothing else looks into a file whose bytes are wrong."""
    try:
        found = hashlib.sha256((pack.folder / file).read_bytes()).hexdigest()
    except OSError as error:
        return [f"{file}: {error.strerror}"]
    return (
        []
        if found == expected
        else [f"{file}: its checksum is {found[:12]}, expected {expected[:12]}: damaged, or another pack's"]
    )


def _shard_problems(pack: Pack, shard: Shard, on_bytes: Callable[[int], None]) -> list[str]:
    """Return what is wrong with a shard: missing, another size, a changed byte, or not what it should hold."""
    path = pack.shard_path(shard)
    if not path.is_file():
        return ["missing"]
    if (num_bytes := path.stat().st_size) != shard.num_bytes:
        return [f"cut short or grown: {num_bytes:,} bytes, expected {shard.num_bytes:,}"]
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            on_bytes(len(chunk))
    if digest.hexdigest() != shard.sha256:
        return [f"changed: its checksum is {digest.hexdigest()[:12]}, expected {shard.sha256[:12]}"]
    last_index = shard.first_index + shard.num_samples
    rejected = [index for index in pack.rejected if shard.first_index <= index < last_index]
    layout = ShardLayout(spec=pack.spec, encoding=pack.encoding, num_samples=shard.num_samples)
    return shard_format(pack.format).problems(path, layout, shard.first_index, rejected)
