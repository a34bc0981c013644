"""`cxr-prep verify`: is a pack whole and unchanged?"""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.console import out, progress_bar
from pipeline.pack_files import num_shards


def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of the pack.", metavar="DIR")],
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every image of a tar as well; takes minutes, not seconds.")
    ] = False,
) -> None:
    """Compare every byte of a pack with its checksums, and its parts with one another.

    All problems are listed together, with the shard and the sample where bytes have changed. Exit code 1: there are
    problems; 2: there is no pack to look at.
    """
    from pipeline.packing.verify import verify_pack

    with progress_bar("MiB") as bar:
        task = bar.add_task("verify", total=None)
        decoding = bar.add_task("decode", total=None, visible=False)
        pack = verify_pack(
            folder,
            lambda done, total: bar.update(task, completed=mib(done), total=mib(total)),
            decode=decode,
            on_decoded=lambda done, total: bar.update(decoding, completed=done, total=total, visible=True),
        )
    decoded = ""
    if decode:
        decoded = ", all images decode" if pack.format == "tar" else f", {pack.format} holds pixels: nothing to decode"
    out.print(
        f"{folder}: OK: {pack.num_samples:,} samples, {len(pack.rejected):,} rejected, {num_shards(len(pack.shards))}, "
        f"{pack.spec.size} px, {pack.format}, identity {pack.identity[:12]}{decoded}",
        markup=False,
    )


def mib(num_bytes: int) -> int:
    """Return whole MiB, rounded up, so that a small pack's bar is not empty."""
    return -(-num_bytes // 2**20)
