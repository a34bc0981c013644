"""Which shards of an interrupted pack can stay."""

from pathlib import Path

from pipeline.file_checksum import SHA256, file_checksum
from pipeline.packing.rejection import Reason
from pipeline.packing.shard import PackedShard, ShardTask


def kept_shard(task: ShardTask, *, read_again: bool) -> PackedShard | None:
    """Return the finished shard of `task`, or None where it must be packed (again).

    It is packed again if its sidecar is missing or broken, if a file's size or (with `read_again`) checksum differs, or
    if an image was rejected because its file was not there or could not be read, and now it might be.
    """
    try:
        packed = PackedShard.from_json(task.sidecar.read_bytes())
        num_samples, num_bytes = packed.num_samples, packed.num_bytes
        sound = (
            (packed.file, packed.first_index, num_samples) == (task.file.name, task.first_index, len(task.files))
            and _is(task.checksums, None, f"{SHA256}:{packed.checksums_sha256}")
            and all(
                _is(task.file.parent / side.file, side.num_bytes, f"{SHA256}:{side.sha256}")
                for side in packed.side_files
            )
            and _is(task.file, num_bytes, packed.checksum if read_again else None)
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if not sound or any(_may_be_readable_now(task, packed)):
        return None
    return packed


def _is(path: Path, num_bytes: int | None, checksum: str | None) -> bool:
    """Tell whether a file has this size and this checksum, as far as they are given.

    Raises:
        OSError: it cannot be read.
        ValueError: the checksum is by an algorithm that is not known here.
    """
    if num_bytes is not None and path.stat().st_size != num_bytes:
        return False
    return checksum is None or file_checksum(path, like=checksum) == checksum


def _may_be_readable_now(task: ShardTask, packed: PackedShard) -> list[bool]:
    """Tell for each rejected image whether the reason was its file's absence, and that may have changed."""
    return [
        image.reason == Reason.UNREADABLE_FILE
        or (image.reason == Reason.MISSING_FILE and task.files[image.sample_index - task.first_index].is_file())
        for image in packed.rejected
    ]
