"""`cxr-train suspects`: the training labels that a run contradicts most."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.console import err, out, progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from trainer.suspects.found import Found
    from trainer.suspects.report import SuspectsReport


def suspects(
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Folder of the run.", show_default=False)],
    top: Annotated[
        int, typer.Option("--top", metavar="N", help="Labels listed of each finding, in each direction.", min=1)
    ] = 100,
    finding: Annotated[
        list[str] | None, typer.Option("--finding", metavar="NAME", help="Only this one; may be repeated.")
    ] = None,
    clean: Annotated[
        Path | None,
        typer.Option("--clean", metavar="MANIFEST", help="Labels that are right: tell how many wrong ones are found."),
    ] = None,
    source: Annotated[
        str, typer.Option("--source", metavar="auto|memory|model", help="Whose opinion. auto: the memory, if any.")
    ] = "auto",
    device: Annotated[
        str, typer.Option("--device", metavar="auto|cpu|cuda[:N]", help="Where the model is asked.")
    ] = "auto",
) -> None:
    """List the training labels that a run contradicts most: what a radiologist would read again first.

    suspects.html shows them with pictures, a finding at a time: labelled but not seen, and seen but not labelled;
    suspects.csv and suspects.parquet have all of them. The opinion is that of the loss's memory (nvum, elr, relay),
    else that of the model itself. With --clean: how many of the wrong labels are found by reading 1, 5 or 10 % again.
    """
    from manifests.errors import ConfigError
    from trainer.suspects.report import SuspectsConfig, report_suspects

    if source not in ("auto", "memory", "model"):
        raise ConfigError(f"--source {source}: expected auto, memory or model")
    config = SuspectsConfig(
        run=run, top=top, findings=tuple(dict.fromkeys(finding or ())), clean=clean,
        source=source,  # type: ignore[arg-type]  # checked above
        device=device,
    )  # fmt: skip
    with progress_bar("images") as progress:
        task = progress.add_task("suspects", total=None, visible=False)
        report = report_suspects(config, partial(_advance, progress, task))
    show(report)


def _advance(progress: "Progress", task: "TaskID", done: int, total: int) -> None:
    progress.update(task, completed=done, total=total, visible=True)


def show(report: "SuspectsReport") -> None:
    """Print what was found and where it is written."""
    from rich.table import Table

    from trainer.suspects.listing import SIDES, rows_of
    from trainer.suspects.page import shown_share

    opinions = report.opinions
    title = f"opinion of the {opinions.source} after {opinions.num_epochs} epochs; the probability of the first suspect"
    table = Table(title=title, title_justify="left")
    table.add_column("finding", no_wrap=True)
    for name in ("labelled", *SIDES):
        table.add_column(name, justify="right")
    for name in report.findings:
        column = opinions.findings.index(name)
        first = [rows[:1] for rows in (rows_of(report.suspects, name, side) for side in SIDES)]
        table.add_row(
            name,
            f"{int((opinions.labels_nC & opinions.mask_nC)[:, column].sum()):,}",
            *(shown_share(rows[0].probability) if rows else "n/a" for rows in first),
        )
    out.print(table)
    if report.found is not None:
        out.print(found_table(report.found))
    for note in report.notes:
        err.print(f"note: {note}", style="yellow", markup=False)
    for path in report.files:
        out.print(f"{path.suffix.removeprefix('.')}: {path}", markup=False)


def found_table(found: "Found") -> object:
    """Return how many of the wrong labels are found, image by image, and the mean AUROC of finding them."""
    from rich.table import Table

    table = Table(
        title=f"{found.wrong:,} wrong labels; mean AUROC of the suspicion {_auroc(found.mean_auroc)}",
        title_justify="left",
    )
    for name in ("images read again", "wrong labels found", "at random"):
        table.add_column(name, justify="right")
    for share, number in found.found.items():
        table.add_row(f"{float(share):.0%}", f"{number:,}", f"{found.by_chance[share]:,.0f}")
    return table


def _auroc(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
