"""`cxr-train predict`: probabilities for image files."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.console import err, out, progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from trainer.predict.image_files import ImageFiles
    from trainer.predict.predict import PredictReport


def predict(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IMAGES",
            help="PNG, JPEG, TIFF, JPEG 2000 or DICOM files, or folders of them.",
            show_default=False,
        ),
    ] = None,
    *,
    run: Annotated[
        Path, typer.Option("--run", metavar="DIR", help="Folder of a run, or an exported model.", show_default=False)
    ],
    manifest: Annotated[
        Path | None, typer.Option("--manifest", metavar="FILE", help="Predict the rows of a manifest instead.")
    ] = None,
    root: Annotated[
        list[str] | None,
        typer.Option("--root", metavar="[DATASET=]DIR", help="Where the manifest's images lie; as in `cxr-prep pack`."),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option("--split", metavar="train|valid|test", help="Only these rows of the manifest.")
    ] = None,
    out_file: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Table to write, .csv or .parquet; an older one goes.")
    ] = Path("predictions.csv"),
    thresholds: Annotated[
        bool,
        typer.Option("--thresholds", help="Also say which findings reach the threshold that `evaluate` chose."),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 where any file cannot be read.")] = False,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", metavar="best|last|FILE", help="Which state of the run.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", help="Images of a forward pass.", min=1)] = 32,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="Processes that decode. Default: one a core.", min=1)
    ] = None,
    device: Annotated[
        str, typer.Option("--device", metavar="auto|cpu|cuda[:N]", help="Where the model runs.")
    ] = "auto",
) -> None:
    """Write the probability of each finding for image files, decoded and resized as those that the run trained on.

    A file that cannot be read is no row of the table: it is in FILE.rejected.csv, with the reason. Exit code 1 where
    none can be read, and with --strict where any cannot.
    """
    from pipeline.cores import usable_cores
    from trainer.predict.predict import PredictConfig
    from trainer.predict.predict import predict as predict_files

    config = PredictConfig(
        model=run, checkpoint=checkpoint, out=out_file, batch_size=batch_size,
        num_workers=usable_cores() if workers is None else workers, device=device, thresholds=thresholds,
    )  # fmt: skip
    files = chosen_files(images or [], manifest, root or [], split or [], out_file)
    with progress_bar("images") as progress:
        task = progress.add_task("predict", total=len(files.files))
        report = predict_files(config, files, partial(_advance, progress, task))
    show(report, out_file)
    if report.num_predicted == 0 or (strict and report.num_predicted < report.num_files):
        raise typer.Exit(1)


def chosen_files(
    images: list[Path], manifest: Path | None, root: list[str], split: list[str], out_file: Path
) -> "ImageFiles":
    """Return the files that the options name.

    Raises:
        UserError: both ways of naming them, options that mean nothing, or files that are not there.
    """
    from manifests.errors import ConfigError
    from manifests.table import read_manifest
    from manifests.workspace import Workspace
    from pipeline.commands.pack import choose_roots
    from trainer.predict.image_files import manifest_files, named_files

    if manifest is None:
        if root or split:
            raise ConfigError(f"{'--root' if root else '--split'} belongs to --manifest, which is not given")
        return named_files(images)
    if images:
        raise ConfigError("--manifest and files both name images; expected one of them")
    if out_file.exists() and out_file.samefile(manifest):
        raise ConfigError(f"--out {out_file}: the manifest itself; choose another name")
    roots = choose_roots(read_manifest(manifest).datasets, given=root, remembered=Workspace.current().roots())
    return manifest_files(manifest, roots, split)


def _advance(progress: "Progress", task: "TaskID", done: int, total: int) -> None:
    progress.update(task, completed=done, total=total)


def show(report: "PredictReport", out_file: Path) -> None:
    """Print how many files have probabilities, and where."""
    out.print(f"{report.num_predicted:,} of {report.num_files:,} images: {out_file}", markup=False)
    for note in report.notes:
        err.print(f"note: {note}", style="yellow", markup=False)
    if report.rejected is not None:
        reasons = ", ".join(
            f"{reason.replace('_', ' ')} {count:,}" for reason, count in report.rejected_by_reason.items()
        )
        err.print(
            f"{report.num_files - report.num_predicted:,} could not be read ({reasons}): {report.rejected}",
            style="yellow",
            markup=False,
        )
