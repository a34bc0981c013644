"""`cxr-train export`: a run's model as files that other code can use."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.console import err, out

if TYPE_CHECKING:
    from trainer.export.export import ExportReport


def export(
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Folder of the run.", show_default=False)],
    out_path: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR|FILE", help="Folder to make, or a .safetensors file. Default: export in the run's."
        ),
    ] = None,
    formats: Annotated[
        str,
        typer.Option(
            "--format", metavar="safetensors,pt2,onnx", help="Weights; a program of torch.export; an ONNX program."
        ),
    ] = "safetensors",
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", metavar="best|last|FILE", help="Which state of the run.")
    ] = "best",
) -> None:
    """Write the model that `evaluate` measures: weights, label space, preprocessing and a model card.

    The weights are always there, as safetensors. A program takes packed pixels (uint8) and gives probabilities; it is
    run on images of the run's pack and refused where it differs from the run's own model. model_card.md is filled from
    the run: evaluate first, so that it has numbers.
    """
    from trainer.export.export import ExportConfig
    from trainer.export.export import export as export_model

    names = tuple(dict.fromkeys(name.strip() for name in formats.split(",") if name.strip()))
    show(export_model(ExportConfig(run=run, checkpoint=checkpoint, out=out_path, formats=names)))


def show(report: "ExportReport") -> None:
    """Print what was written, and how far programs are from the run's model."""
    for path in report.files:
        difference = report.differences.get(path.name)
        told = "" if difference is None else f" (differs by at most {difference:.1e})"
        out.print(f"{path}{told}", markup=False)
    for note in report.notes:
        err.print(f"note: {note}", style="yellow", markup=False)
