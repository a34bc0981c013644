"""`cxr-prep info`: what is in a pack, in words and in pictures."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.console import out


def info(
    folder: Annotated[Path, typer.Argument(help="Folder of the pack.", metavar="DIR")],
    contact_sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw 64 random samples with their labels, to look at."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which samples are drawn.", min=0)] = 0,
) -> None:
    """Say what a pack is: format, size, splits, rejected images, bytes, and what reads it."""
    from pipeline.pack import open_pack
    from pipeline.packing.summary import summary_lines

    pack = open_pack(folder)
    out.print("\n".join(summary_lines(pack)), markup=False)
    if contact_sheet is not None:
        from pipeline.packing.contact_sheet import write_contact_sheet

        num_drawn = write_contact_sheet(pack, contact_sheet, seed=seed)
        out.print(f"sheet     {contact_sheet}: {num_drawn} samples, seed {seed}", markup=False)
