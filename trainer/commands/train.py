"""`cxr-train` itself: train a model on a pack."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from manifests.errors import ConfigError
from pipeline.console import out as console

HELP = """Train a model on a pack; subcommands look at what came out.

Without options: the only pack of the workspace that the loader reads, DenseNet-121, NVUM's loss, the label space
nvum-nih. Trained on the split train, the best epoch chosen on valid; test is never looked at.

Examples:

- `cxr-train`: all defaults.

- `cxr-train --recipe nvum-nih`: the authors' settings for ChestX-ray14, from ImageNet weights.

- `cxr-train --loss bce --set ema.enabled=on --model small --epochs 10`: cross-entropy with an EMA teacher.

- `cxr-train --set optim.lr=1e-4 --set optim.betas=[0.9,0.99]`: any setting, values as in TOML.

- `cxr-train --resume`: go on with the run that was interrupted.

- `torchrun --nproc-per-node 8 -m trainer.cli --out DIR --resume auto`: eight GPUs, in a job that may be started again.

- `cxr-train evaluate --run DIR`: AUROC on the split test, and a report.
"""

RESUME_LAST, RESUME_AUTO = "last", "auto"
"""Values of `--resume`: what it means alone, and what may follow it."""


def train(
    context: typer.Context,
    loader: Annotated[
        str | None,
        typer.Option("--loader", metavar="NAME", help="How batches are read. Default: raw.", show_default=False),
    ] = None,
    pack: Annotated[
        Path | None,
        typer.Option("--pack", metavar="DIR", help="Folder of the pack. Default: the only one that the loader reads."),
    ] = None,
    label_space: Annotated[
        str | None,
        typer.Option("--label-space", metavar="NAME", help="Outputs, and rows left out. Default: nvum-nih."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="densenet121|small", help="Network. Default: densenet121.")
    ] = None,
    loss: Annotated[str | None, typer.Option("--loss", metavar="bce|nvum", help="Loss. Default: nvum.")] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="N", help="Passes over the training rows. Default: 30.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", metavar="FILE|NAME", help="Settings in TOML, or a shipped recipe: nvum-nih, ..."),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One setting; may be repeated; wins over the recipe."),
    ] = None,
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
) -> None:
    """Read the options, train, say how it ended."""
    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
        return
    # torch takes a second to import: `--help` must not wait for it.
    from trainer import launch
    from trainer.distributed import joined_ranks
    from trainer.recipe import given
    from trainer.report import write_report

    settings = {
        "--loader": ("loader", "backend", loader),
        "--pack": ("data", "pack", None if pack is None else str(pack)),
        "--label-space": ("data", "label_space", label_space),
        "--model": ("model", "name", model),
        "--loss": ("loss", "name", loss),
        "--epochs": ("run", "epochs", epochs),
    }
    options = {
        option: {section: {key: value}} for option, (section, key, value) in settings.items() if value is not None
    }
    with joined_ranks() as ranks:
        with ranks.together():
            asked = given(recipe=recipe, assignments=assignments or (), options=options)
            _check_resume(resume, out)
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


def _check_resume(resume: str | None, out: Path | None) -> None:
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
