"""`cxr-train evaluate`: AUROC, calibration and operating points of a run on test sets, and its report."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manifests.errors import ConfigError
from pipeline.console import out, progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import Progress, TaskID

    from trainer.evaluation.operating import OperatingRule


def evaluate(
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Folder of the run.", show_default=False)],
    pack: Annotated[
        list[Path] | None,
        typer.Option("--pack", metavar="DIR", help="Folder of a pack; may be repeated. Default: the run's."),
    ] = None,
    split: Annotated[str, typer.Option("--split", metavar="train|valid|test", help="Which rows.")] = "test",
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="MANIFEST", help="Score against the labels of this manifest, image by image."),
    ] = None,
    expert: Annotated[
        Path | None,
        typer.Option(
            "--expert", metavar="FILE", help="Score ChestX-ray14 also against its experts' findings, in this file."
        ),
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
    sensitivity: Annotated[
        float | None,
        typer.Option("--sensitivity", metavar="SHARE", help="Choose thresholds on validation that reach it."),
    ] = None,
    specificity: Annotated[
        float | None,
        typer.Option("--specificity", metavar="SHARE", help="Choose them by this one instead. Default: by Youden's J."),
    ] = None,
) -> None:
    """Measure a run's model (its EMA teacher where it has one) on test sets; write metrics.json and report.html.

    Each pack has its tables, and several have one of their means. The first table names the positives beside each
    number, and the 95 % bootstrap interval of the AUROC; a finding without positives or without negatives is "n/a", and
    one with fewer than 5 patients of either has no interval. Means are over all findings and over those with at least
    --min-positives positives; both leave No Finding out. The second table has the operating points: thresholds chosen
    on the run's validation images, never on the test set. Probabilities are kept in predictions-DATASET-SPLIT.parquet.
    With --against, differences of AUROC to another run on the same images follow, with intervals from the same draws of
    patients and the p value of DeLong's test.
    """
    from trainer.distributed import joined_ranks
    from trainer.evaluation.bootstrap import BootstrapConfig
    from trainer.evaluation.evaluate import EvaluateConfig
    from trainer.evaluation.evaluate import evaluate as evaluate_one
    from trainer.evaluation.paired import compare_runs
    from trainer.report.run_report import write_report
    from trainer.report.terminal import show, show_differences, show_means

    with joined_ranks() as ranks:
        with ranks.together():
            drawn = BootstrapConfig(draws=bootstrap, resampling=resampling)  # type: ignore[arg-type]  # checked there
            rule = operating_rule(sensitivity, specificity)
            folders: list[Path | None] = [*pack] if pack else [None]
            measured: list[tuple[Path | None, Path | None]] = [(folder, None) for folder in folders]
            if expert is not None:
                measured += [(folder, expert) for folder in _of_experts(pack or ())]
        entries = []
        for folder, file in measured:
            for name in checkpoint or ["best"]:
                config = EvaluateConfig(
                    run=run, pack=folder, split=split, labels=None if file else labels, expert=file, checkpoint=name,
                    loader=loader, batch_size=batch_size, device=device, bootstrap=drawn, min_positives=min_positives,
                    operating=rule,
                )  # fmt: skip
                with progress_bar("images") as progress:
                    task = progress.add_task(f"evaluate {name}", total=None)
                    entry = evaluate_one(config, on_step=partial(_advance, progress, task), ranks=ranks)
                entries.append(entry)
                show(entry)
                out.print(f"predictions: {run / entry.predictions}", markup=False)
                if against is not None:
                    compare = partial(compare_runs, run, against, entry.predictions, drawn, min_positives=min_positives)
                    differences, path = ranks.from_first(compare)
                    show_differences(differences, run, against, min_positives)
                    out.print(f"differences: {path}", markup=False)
        if len(entries) > 1:
            show_means(entries)
        out.print(f"report: {ranks.from_first(lambda: write_report(run))}", markup=False)


def operating_rule(sensitivity: float | None, specificity: float | None) -> "OperatingRule":
    """Return how thresholds are chosen.

    Raises:
        ConfigError: both are asked for, or one that is no share.
    """
    from trainer.evaluation.operating import OperatingRule

    if sensitivity is not None and specificity is not None:
        raise ConfigError("--sensitivity and --specificity each choose the thresholds; expected one of them")
    if sensitivity is not None:
        return OperatingRule(name="sensitivity", at_least=sensitivity)
    if specificity is not None:
        return OperatingRule(name="specificity", at_least=specificity)
    return OperatingRule()


def _of_experts(packs: "Sequence[Path]") -> "list[Path] | list[None]":
    """Return the packs that have images of the experts' dataset; where none of them has, the run's own."""
    from pipeline.pack import open_pack
    from trainer.evaluation.expert import DATASET

    return [folder for folder in packs if DATASET in open_pack(folder).manifest().datasets] or [None]


def _advance(progress: "Progress", task: "TaskID", done: int, total: int) -> None:
    progress.update(task, completed=done, total=total)
