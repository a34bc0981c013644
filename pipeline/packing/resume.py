"""Which shards of an interrupted pack can stay."""

import hashlib

from pipeline.packing.rejection import Reason
from pipeline.packing.shard import PackedShard, ShardTask


def kept_shard(task: ShardTask) -> PackedShard | None:
    """Return the finished shard of `task`, or None where it must be packed (again).

    It is packed again if its sidecar is missing or broken, if the file's size or checksum differs, or if an image was
    rejected because its file was not there or could not be read, and now it might be.
    """
    try:
        packed = PackedShard.from_json(task.sidecar.read_bytes())
        if task.file.stat().st_size != packed.num_bytes:
            return None
        with task.file.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if digest != packed.sha256 or any(_may_be_readable_now(task, packed)):
        return None
    return packed


def _may_be_readable_now(task: ShardTask, packed: PackedShard) -> list[bool]:
    """Tell for each rejected image whether the reason was its file's absence, and that may have changed."""
    return [
        image.reason == Reason.UNREADABLE_FILE
        or (image.reason == Reason.MISSING_FILE and task.files[image.sample_index - task.first_index].is_file())
        for image in packed.rejected
    ]
