"""`cxr-train` itself: train a model on a pack."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manifests.errors import ConfigError
from pipeline.console import out as console
from trainer.commands.settings import (
    Assignments,
    Epochs,
    LabelsFile,
    LabelSpaceName,
    LoaderName,
    LossOption,
    ModelName,
    PackFolder,
    Recipe,
    settings,
)

if TYPE_CHECKING:
    from trainer.distributed import Ranks
    from trainer.sections import Values

HELP = """Train a model on a pack; subcommands look at what came out.

Without options: the only pack of the workspace that the loader reads, DenseNet-121, NVUM's loss, the label space
nvum-nih. Trained on the split train, the best epoch chosen on valid; test is never looked at.

Examples:

- `cxr-train`: all defaults.

- `cxr-train --recipe nvum-nih`: the authors' settings for ChestX-ray14, from ImageNet weights.

- `cxr-train --loss bce --set ema.enabled=on --model small --epochs 10`: cross-entropy with an EMA teacher.

- `cxr-train --set optim.lr=1e-4 --set optim.betas=[0.9,0.99]`: any setting, values as in TOML.

- `cxr-train --recipe nvum-nih --dry-run`: what the run would be: settings, memory, steps, time.

- `cxr-train profile --recipe nvum-nih`: what such a run waits for, and what would fix it.

- `cxr-train --resume`: go on with the run that was interrupted.

- `torchrun --nproc-per-node 8 -m trainer.cli --out DIR --resume auto`: eight GPUs, in a job that may be started again.

- `cxr-train evaluate --run DIR`: AUROC on the split test, and a report.

- `cxr-train predict --run DIR IMAGES...`: probabilities for image files.

- `cxr-train export --run DIR`: the model with its card, for other code.
"""

RESUME_LAST, RESUME_AUTO = "last", "auto"
"""Values of `--resume`: what it means alone, and what may follow it."""


def train(
    context: typer.Context,
    loader: LoaderName = None,
    pack: PackFolder = None,
    labels: LabelsFile = None,
    label_space: LabelSpaceName = None,
    model: ModelName = None,
    loss: LossOption = None,
    epochs: Epochs = None,
    recipe: Recipe = None,
    no_verify: Annotated[
        bool,
        typer.Option("--no-verify", help="Do not compare the pack's checksums in the background of the first epoch."),
    ] = False,
    on_corrupt: Annotated[
        str | None,
        typer.Option(
            "--on-corrupt", metavar="error|skip", help="What an image that cannot be decoded does. Default: error."
        ),
    ] = None,
    assignments: Assignments = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="[auto]",
            help="Go on with a run: the one of --out, or the only unfinished one. auto: start it where --out has none.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder of the run. Default: a new one in the workspace's runs/."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what the run would be: settings, memory, steps, time. Write nothing."),
    ] = False,
) -> None:
    """Read the options, train, say how it ended."""
    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
        return
    # torch takes a second to import: `--help` must not wait for it.
    from trainer import launch
    from trainer.distributed import joined_ranks
    from trainer.report.run_report import write_report

    options = {
        "--loader": loader,
        "--pack": pack,
        "--labels": labels,
        "--label-space": label_space,
        "--model": model,
        "--loss": loss,
        "--epochs": epochs,
        "--no-verify": False if no_verify else None,
        "--on-corrupt": on_corrupt,
    }
    with joined_ranks() as ranks:
        with ranks.together():
            asked = settings(options, recipe=recipe, assignments=assignments)
            _check_resume(resume, out, dry_run=dry_run)
        if dry_run:
            _say_what_would_be(asked, ranks)
            return
        if resume == RESUME_AUTO and out is not None:
            outcome = launch.train_or_resume(asked, out=out, ranks=ranks)
        else:
            outcome = (launch.resume if resume else launch.train)(asked, out=out, ranks=ranks)
        if outcome.finished:
            report = ranks.from_first(lambda: write_report(outcome.run))
            console.print(f"report: {report}\nnext: cxr-train evaluate --run {quoted(outcome.run)}", markup=False)
        else:
            console.print(f"stopped; go on with: {ranks.program} --resume --out {quoted(outcome.run)}", markup=False)
    raise typer.Exit(outcome.exit_code)


def quoted(path: Path) -> str:
    """Return a path as one pastes it into a shell."""
    return shlex.quote(str(path))


def _say_what_would_be(asked: "Values", ranks: "Ranks") -> None:
    from trainer.dry_run import dry_run, report

    run = dry_run(asked, ranks=ranks)
    if ranks.is_first:
        console.print(report(run), markup=False, highlight=False, soft_wrap=True)


def _check_resume(resume: str | None, out: Path | None, *, dry_run: bool) -> None:
    if resume and dry_run:
        raise ConfigError("--dry-run --resume: a dry run is of a new run; leave out one of them")
    if resume not in (None, RESUME_LAST, RESUME_AUTO):
        raise ConfigError(f"--resume={resume}: expected --resume alone, or --resume {RESUME_AUTO}")
    if resume == RESUME_AUTO and out is None:
        raise ConfigError(
            f"--resume {RESUME_AUTO} needs --out DIR: by that folder a job that is started again finds its run"
        )


def _refuse_options_before(context: typer.Context) -> None:
    """Refuse options of training in front of a subcommand, which would be ignored."""
    # Every default is empty, so an option that was given is one with a value.
    params = context.command.params
    named = sorted(parameter.opts[0] for parameter in params if context.params.get(parameter.name or ""))
    if named:
        raise ConfigError(
            f"{', '.join(named)} before {context.invoked_subcommand}: options of training; "
            f"those of {context.invoked_subcommand} come after its name"
        )
