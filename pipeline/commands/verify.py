"""`cxr-prep verify`: is a pack whole and unchanged?"""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.console import out, progress_bar


def verify(folder: Annotated[Path, typer.Argument(help="Folder of the pack.", metavar="DIR")]) -> None:
    """Compare every byte of a pack with its checksums, and its parts with one another.

    All problems are listed together; the exit code is 2 where there is any.
    """
    from pipeline.packing.verify import verify_pack

    with progress_bar("MiB") as bar:
        task = bar.add_task("verify", total=None)
        pack = verify_pack(folder, lambda done, total: bar.update(task, completed=mib(done), total=mib(total)))
    out.print(
        f"{folder}: OK: {pack.num_samples:,} samples, {len(pack.rejected):,} rejected, {len(pack.shards)} shards, "
        f"{pack.spec.size} px, {pack.format}, identity {pack.identity[:12]}",
        markup=False,
    )


def mib(num_bytes: int) -> int:
    """Return whole MiB, rounded up, so that a small pack's bar is not empty."""
    return -(-num_bytes // 2**20)
