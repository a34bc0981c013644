"""`cxr-train profile`: what training waits for, and what would fix it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.console import err, out
from trainer.commands.settings import (
    Assignments,
    Epochs,
    LabelSpaceName,
    LoaderName,
    LossOption,
    ModelName,
    PackFolder,
    Recipe,
    settings,
)

if TYPE_CHECKING:
    from trainer.profile.measurements import Measurements


def profile(
    loader: LoaderName = None,
    pack: PackFolder = None,
    label_space: LabelSpaceName = None,
    model: ModelName = None,
    loss: LossOption = None,
    epochs: Epochs = None,
    recipe: Recipe = None,
    assignments: Assignments = None,
    max_seconds: Annotated[
        float, typer.Option("--max-seconds", metavar="S", help="After which it ends; 2 or more.")
    ] = 90.0,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all that was measured, for --compare.")
    ] = None,
    html: Annotated[Path, typer.Option("--html", metavar="FILE", help="Where the page goes.")] = Path("profile.html"),
    compare: Annotated[
        Path | None,
        typer.Option("--compare", metavar="FILE", help="An older --json: exit code 1 where it was faster than now."),
    ] = None,
    tolerance: Annotated[
        str, typer.Option("--tolerance", metavar="SHARE", help="How much slower is not yet worse, for --compare.")
    ] = "10%",
) -> None:
    """Measure a run without training it: what it waits for, what would help, and how fast it would then be.

    Takes the options of training. Reading (from the disk and from the page cache), decoding, copying, augmenting, the
    loader and the step are measured each by itself, then together as they run. Names the bound: DISK, DECODE, COPY,
    AUGMENT, COMPUTE, COMMUNICATION or STRAGGLER, the option to turn, and the rate that a stated model predicts. Several
    processes are measured together, and a rank that is slower is named. Weights are made up and thrown away.

    For example:

    - `cxr-train profile --recipe nvum-nih`: the run that this recipe would be.

    - `cxr-train profile --loader dali --json now.json`, then `cxr-train profile --loader dali --compare now.json`.

    - `torchrun --nproc-per-node 8 -m trainer.cli profile --recipe nvum-nih`: eight GPUs.
    """
    # torch takes a second to import: `--help` must not wait for it.
    from trainer.distributed import joined_ranks
    from trainer.profile.compare import read_profile, tolerance_of, write_profile
    from trainer.profile.page import write_page
    from trainer.profile.profile import profile as measure
    from trainer.profile.terminal import show
    from trainer.profile.verdict import verdict_of
    from trainer.profile.what_if import what_ifs

    options = {
        "--loader": loader,
        "--pack": pack,
        "--label-space": label_space,
        "--model": model,
        "--loss": loss,
        "--epochs": epochs,
    }
    is_worse = False
    with joined_ranks() as ranks:
        with ranks.together():
            asked = settings(options, recipe=recipe, assignments=assignments)
            share = tolerance_of(tolerance)
            old = None if compare is None or not ranks.is_first else read_profile(compare)
        measured = measure(asked, max_seconds=max_seconds, ranks=ranks)
        with ranks.together():
            if measured is not None:
                show(out, measured, verdict_of(measured), what_ifs(measured))
                out.print(f"page: {write_page(html, measured)}", markup=False)
                if json is not None:
                    write_profile(json, measured)
                    out.print(f"measurements: {json}", markup=False)
                if old is not None:
                    is_worse = _show_comparison(old, measured, share)
    raise typer.Exit(1 if is_worse else 0)


def _show_comparison(old: "Measurements", new: "Measurements", tolerance: float) -> bool:
    """Print both rates side by side; return whether one is worse."""
    from trainer.profile.compare import compared, other_hardware
    from trainer.profile.verdict import shown

    rows = compared(old, new, tolerance=tolerance)
    for difference in other_hardware(old, new):
        err.print(f"warning: another machine: {difference}", style="yellow", markup=False)
    for row in rows:
        verdict = f"SLOWER by more than {tolerance:.0%}" if row.is_regression else "fine"
        out.print(
            f"{row.what}: {shown(row.old_images_per_s)} images/s then, {shown(row.new_images_per_s)} now "
            f"({row.change:+.1%}): {verdict}",
            markup=False,
        )
    return any(row.is_regression for row in rows)
