"""What every loader says of a pack that is damaged."""

from pathlib import Path

from pipeline.errors import PackError
from pipeline.pack import Pack, Shard


def repair(pack: Pack) -> str:
    """Return the words that tell a user how to go on with a damaged pack."""
    return f"run `cxr-prep verify {pack.folder}`, then pack again"


def cut_short(path: Path, pack: Pack, shard: Shard, num_bytes: int) -> PackError:
    """Return the error for a shard that has become shorter than it was."""
    return PackError(
        f"{path}: the shard is cut short: {num_bytes:,} bytes, expected {shard.num_bytes:,} for samples "
        f"{shard.first_index}..{shard.first_index + shard.num_samples - 1}; {repair(pack)}"
    )


def unreadable(path: Path, pack: Pack, error: OSError) -> PackError:
    """Return the error for a file of a pack that the system does not read."""
    return PackError(f"{path}: cannot be read ({error.strerror or error}); {repair(pack)}")
