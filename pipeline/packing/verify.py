"""Finding whatever is wrong with a pack: every byte of every file is compared with what pack.json says."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipeline.errors import DamagedPackError, PackError
from pipeline.file_checksum import FileChecksum, shown
from pipeline.pack import CHECKSUMS_FILE, MANIFEST_FILE, PACK_FILE, REJECTED_FILE, Pack, Shard, read_pack_json
from pipeline.packing.checksums import ROW, changed_rows, shorten
from pipeline.packing.formats import FORMATS
from pipeline.packing.pixels import PIXEL_RULE
from pipeline.packing.shard_format import ShardLayout
from pipeline.packing.verify_images import image_problems

CHUNK_BYTES = 1 << 20

OnProgress = Callable[[int, int], None]
"""Gets what is done and what is to be done."""


def nobody(done: int, total: int) -> None:
    """Take progress that nobody looks at."""


def verify_pack(
    folder: Path, on_progress: OnProgress = nobody, *, decode: bool = False, on_decoded: OnProgress = nobody
) -> Pack:
    """Return the pack in `folder` if it is whole and unchanged; `on_progress` gets bytes read and bytes to read.

    Compared: pack.json with its own checksum, checksum and size of every other file, the manifest with the identity,
    the shards' headers, zeros where images were rejected, and rejected.parquet with pack.json. Of a shard that has
    changed the samples are named.

    Args:
        folder: where the pack lies.
        on_progress: gets bytes read and bytes to read.
        decode: decode all images of a `tar` as well; in `raw` and `beton` every byte is a pixel already.
        on_decoded: gets images decoded and images to decode.

    Raises:
        PackError: there is no pack that could be verified.
        DamagedPackError: anything differs; all problems together.
    """
    pack = read_pack_json(folder)
    problems = []
    if (folder / PACK_FILE).read_bytes() != pack.to_json():
        problems.append(f"{PACK_FILE}: not as it was written")
    if pack.pixel_rule != PIXEL_RULE:
        problems.append(f"{PACK_FILE}: pixels by rule {pack.pixel_rule}, this version makes them by rule {PIXEL_RULE}")
    problems += _manifest_problems(pack)
    problems += _rejected_problems(pack)
    found = _checksum_problems(pack, CHECKSUMS_FILE, pack.checksums_sha256)
    rows_N = None if found else _read_checksums(pack)
    if rows_N is not None and len(rows_N) != pack.num_samples:
        found = [f"{CHECKSUMS_FILE}: {len(rows_N):,} samples, expected {pack.num_samples:,}"]
        rows_N = None
    problems += found
    total, done = sum(shard.num_bytes for shard in pack.shards), 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        on_progress(done, total)

    for shard in pack.shards:
        of_sides = [line for side in shard.side_files for line in _checksum_problems(pack, side.file, side.sha256)]
        of_shard = _shard_problems(pack, shard, rows_N, on_bytes, look_inside=not of_sides)
        problems += [*(f"{shard.file}: {problem}" for problem in of_shard), *of_sides]
    if decode and not problems:
        problems += image_problems(pack, on_decoded)
    if problems:
        raise DamagedPackError(
            "\n  ".join([f"{folder}: {_count(problems)}; restore these files or pack again", *problems])
        )
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


def _read_checksums(pack: Pack) -> np.ndarray:
    """Return the checksum of every sample: array [N] of `checksums.ROW`."""
    table = pq.read_table(pack.folder / CHECKSUMS_FILE)
    rows_N = np.zeros(table.num_rows, ROW)
    for name in ROW.names or ():
        rows_N[name] = table.column(name).to_numpy()
    return rows_N


def _shard_problems(
    pack: Pack, shard: Shard, rows_N: np.ndarray | None, on_bytes: Callable[[int], None], *, look_inside: bool
) -> list[str]:
    """Return what is wrong with a shard: missing, another size, a changed byte, or not what it should hold.

    Only with side files that are whole there is a way to `look_inside`.
    """
    path = pack.shard_path(shard)
    if not path.is_file():
        return ["missing"]
    if (num_bytes := path.stat().st_size) != shard.num_bytes:
        return [
            f"cut short or grown: {num_bytes:,} bytes, expected {shard.num_bytes:,}; {_damage(pack, shard, rows_N)}"
        ]
    found = FileChecksum.like(shard.checksum)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            found.update(chunk)
            on_bytes(len(chunk))
    if str(found) != shard.checksum:
        return [
            f"changed: its checksum is {shown(str(found))}, expected {shown(shard.checksum)}; "
            f"{_damage(pack, shard, rows_N)}"
        ]
    if not look_inside:
        return []
    last_index = shard.first_index + shard.num_samples
    rejected = [index for index in pack.rejected if shard.first_index <= index < last_index]
    layout = ShardLayout(
        spec=pack.spec,
        encoding=pack.encoding,
        num_samples=shard.num_samples,
        num_targets=len(pack.target_names),
    )
    return FORMATS[pack.format].problems(path, layout, shard.first_index, rejected)


def _damage(pack: Pack, shard: Shard, rows_N: np.ndarray | None) -> str:
    """Say which samples of a shard are not what they were."""
    if rows_N is None:
        return f"which samples, {CHECKSUMS_FILE} does not tell any more"
    rows = rows_N[shard.first_index : shard.first_index + shard.num_samples]
    changed = [shard.first_index + row for row in changed_rows(pack.shard_path(shard), rows)]
    if not changed:
        return "no sample, but what lies before, between or behind them"
    name = ""
    if len(changed) == 1 and not _manifest_problems(pack):
        name = f" ({pack.manifest().column('image_id')[changed[0]].as_py()})"
    return f"changed {'samples' if len(changed) > 1 else 'sample'}: sample_index {shorten(changed)}{name}"
