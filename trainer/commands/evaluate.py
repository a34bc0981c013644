"""`cxr-train evaluate`: AUROC and average precision of a run on a split, and its report."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.console import err, out, progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from trainer.metrics_file import EvaluationEntry


def evaluate(
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Folder of the run.", show_default=False)],
    pack: Annotated[
        Path | None, typer.Option("--pack", metavar="DIR", help="Folder of the pack. Default: the run's.")
    ] = None,
    split: Annotated[str, typer.Option("--split", metavar="train|valid|test", help="Which rows.")] = "test",
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="MANIFEST", help="Score against the labels of this manifest, image by image."),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option("--checkpoint", metavar="best|last|FILE", help="Which state of the run; may be repeated."),
    ] = None,
    loader: Annotated[
        str | None, typer.Option("--loader", metavar="NAME", help="How batches are read. Default: the run's.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", metavar="N", help="Images a step. Default: the run's.", min=1)
    ] = None,
    device: Annotated[
        str, typer.Option("--device", metavar="auto|cpu|cuda[:N]", help="Where the model runs.")
    ] = "auto",
) -> None:
    """Measure a run's model (its EMA teacher where it has one) on a split; write metrics.json and report.html.

    The table names the positives beside each number; a finding without positives or without negatives is "n/a". Means
    leave No Finding out. Probabilities are kept in predictions-DATASET-SPLIT.parquet.
    """
    from trainer.distributed import joined_ranks
    from trainer.evaluate import EvaluateConfig
    from trainer.evaluate import evaluate as evaluate_one
    from trainer.report import write_report

    with joined_ranks() as ranks:
        for name in checkpoint or ["best"]:
            config = EvaluateConfig(
                run=run, pack=pack, split=split, labels=labels, checkpoint=name, loader=loader, batch_size=batch_size,
                device=device,
            )  # fmt: skip
            with progress_bar("images") as progress:
                task = progress.add_task(f"evaluate {name}", total=None)
                entry = evaluate_one(config, on_step=partial(_advance, progress, task), ranks=ranks)
            show(entry)
            out.print(f"predictions: {run / entry.predictions}", markup=False)
        out.print(f"report: {ranks.from_first(lambda: write_report(run))}", markup=False)


def _advance(progress: "Progress", task: "TaskID", done: int, total: int) -> None:
    progress.update(task, completed=done, total=total)


def show(entry: "EvaluationEntry") -> None:
    """Print the table of one evaluation, what was left out, and the warnings."""
    from rich.table import Table

    title = f"{entry.dataset}, split {entry.split}, labels {entry.labels}, checkpoint {entry.checkpoint}"
    table = Table("finding", title=f"{title}: {entry.num_images:,} images", title_justify="left")
    for name in ("positives", "negatives", "AUROC", "AP"):
        table.add_column(name, justify="right")
    for finding in entry.metrics.findings:
        table.add_row(
            finding.finding,
            f"{finding.positives:,}",
            f"{finding.negatives:,}",
            shown(finding.auroc),
            shown(finding.average_precision),
        )
    table.add_section()
    count = entry.metrics.num_findings_in_mean
    table.add_row(
        f"mean of {count}, without No Finding", "", "", shown(entry.metrics.mean_auroc),
        shown(entry.metrics.mean_average_precision),
    )  # fmt: skip
    out.print(table)
    for reason, number in entry.left_out.items():
        out.print(f"left out: {number:,} ({reason})", markup=False)
    for warning in entry.warnings:
        err.print(f"warning: {warning}", style="yellow", markup=False)


def shown(value: float | None) -> str:
    """Return a metric with four digits, or n/a."""
    return "n/a" if value is None else f"{value:.4f}"
