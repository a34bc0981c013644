"""`cxr-train evaluate`: AUROC and average precision of a run on a split, and its report."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.console import err, out, progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import Progress, TaskID

    from trainer.evaluation.metrics import Interval
    from trainer.evaluation.metrics_file import EvaluationEntry
    from trainer.evaluation.paired import PairedDifference


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
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", metavar="DRAWS", help="Draws behind the 95 % intervals; 0: no intervals.")
    ] = 2000,
    resampling: Annotated[
        str,
        typer.Option(
            "--resampling", metavar="patient|stratified", help="Draw patients, or each class of a finding by itself."
        ),
    ] = "patient",
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", metavar="DIR", help="Another run, evaluated in the same way: is the difference real?"
        ),
    ] = None,
    min_positives: Annotated[
        int,
        typer.Option("--min-positives", metavar="N", help="Fewest positives of a finding in the second mean.", min=1),
    ] = 10,
) -> None:
    """Measure a run's model (its EMA teacher where it has one) on a split; write metrics.json and report.html.

    The table names the positives beside each number, and the 95 % bootstrap interval of the AUROC; a finding without
    positives or without negatives is "n/a", and one with fewer than 5 patients of either has no interval. Means are
    over all findings and over those with at least --min-positives positives; both leave No Finding out. Probabilities
    are kept in predictions-DATASET-SPLIT.parquet. With --against, differences of AUROC to another run on the same
    images follow, with intervals from the same draws of patients and the p value of DeLong's test.
    """
    from trainer.distributed import joined_ranks
    from trainer.evaluation.bootstrap import BootstrapConfig
    from trainer.evaluation.evaluate import EvaluateConfig
    from trainer.evaluation.evaluate import evaluate as evaluate_one
    from trainer.evaluation.paired import compare_runs
    from trainer.report.run_report import write_report

    with joined_ranks() as ranks:
        with ranks.together():
            drawn = BootstrapConfig(draws=bootstrap, resampling=resampling)  # type: ignore[arg-type]  # checked there
        for name in checkpoint or ["best"]:
            config = EvaluateConfig(
                run=run, pack=pack, split=split, labels=labels, checkpoint=name, loader=loader, batch_size=batch_size,
                device=device, bootstrap=drawn, min_positives=min_positives,
            )  # fmt: skip
            with progress_bar("images") as progress:
                task = progress.add_task(f"evaluate {name}", total=None)
                entry = evaluate_one(config, on_step=partial(_advance, progress, task), ranks=ranks)
            show(entry)
            out.print(f"predictions: {run / entry.predictions}", markup=False)
            if against is not None:
                compare = partial(compare_runs, run, against, entry.predictions, drawn, min_positives=min_positives)
                differences, path = ranks.from_first(compare)
                show_differences(differences, run, against, min_positives)
                out.print(f"differences: {path}", markup=False)
        out.print(f"report: {ranks.from_first(lambda: write_report(run))}", markup=False)


def _advance(progress: "Progress", task: "TaskID", done: int, total: int) -> None:
    progress.update(task, completed=done, total=total)


def show(entry: "EvaluationEntry") -> None:
    """Print the table of one evaluation, what was left out, and the warnings."""
    from rich.table import Table

    title = f"{entry.dataset}, split {entry.split}, labels {entry.labels}, checkpoint {entry.checkpoint}"
    table = Table(title=f"{title}: {entry.num_images:,} images", title_justify="left")
    # 80 columns hold the names and the intervals of one measure; the report has those of both.
    table.add_column("finding", min_width=max(len(finding.finding) for finding in entry.metrics.findings))
    for name in ("positives", "negatives", "AUROC", "AP"):
        table.add_column(name, justify="right")
    for finding in entry.metrics.findings:
        table.add_row(
            finding.finding,
            f"{finding.positives:,}",
            f"{finding.negatives:,}",
            shown(finding.auroc, finding.auroc_interval),
            shown(finding.average_precision),
        )
    table.add_section()
    metrics, supported = entry.metrics, entry.metrics.supported
    table.add_row(
        f"mean of {metrics.num_findings_in_mean}, without No Finding", "", "",
        shown(metrics.mean_auroc, metrics.mean_auroc_interval),
        shown(metrics.mean_average_precision),
    )  # fmt: skip
    if supported is not None:
        table.add_row(
            f"mean of {supported.num_findings} with >= {supported.min_positives} positives", "", "",
            shown(supported.mean_auroc, supported.mean_auroc_interval),
            shown(supported.mean_average_precision),
        )  # fmt: skip
    out.print(table)
    for reason, number in entry.left_out.items():
        out.print(f"left out: {number:,} ({reason})", markup=False)
    for warning in entry.warnings:
        err.print(f"warning: {warning}", style="yellow", markup=False)


def show_differences(differences: "Sequence[PairedDifference]", run: Path, against: Path, min_positives: int) -> None:
    """Print the table of the paired differences of AUROC."""
    from rich.table import Table

    title = f"AUROC of {run.resolve().name} less that of {against.resolve().name}"
    table = Table(title=title, title_justify="left")
    table.add_column("finding", min_width=max(len(row.name) for row in differences))
    for name in ("AUROC", "other", "difference", "DeLong p"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in differences:
        if row.name == "mean":
            table.add_section()
        name = f"mean, findings with >= {min_positives} positives" if row.name == "mean" else row.name
        ends = "" if row.interval is None else f" ({row.interval[0]:+.3f}, {row.interval[1]:+.3f})"
        table.add_row(
            name, shown(row.first), shown(row.second),
            "n/a" if row.difference is None else f"{row.difference:+.3f}{ends}",
            "n/a" if row.delong_p is None else f"{row.delong_p:.2g}",
        )  # fmt: skip
    out.print(table)


def shown(value: float | None, interval: "Interval | None" = None) -> str:
    """Return a metric with four digits, or n/a, and its interval where it has one."""
    ends = "" if interval is None else f" ({interval[0]:.3f}-{interval[1]:.3f})"
    return "n/a" if value is None else f"{value:.4f}{ends}"
