"""The options that say what is trained and how: those of `cxr-train` itself, and of what looks at a run beforehand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trainer.sections import Values

LOSSES = "nvum (default), bce, label_smoothing, focal, asl, gce, logit_adjustment, elr or relay."
"""Help of `--loss`: the names of `trainer.methods`, which imports torch."""

LoaderName = Annotated[
    str | None,
    typer.Option(
        "--loader",
        metavar="NAME",
        help="How batches are read: raw, resident, dali, ffcv, reference or synthetic. Default: raw.",
        show_default=False,
    ),
]
PackFolder = Annotated[
    Path | None,
    typer.Option("--pack", metavar="DIR", help="Folder of the pack. Default: the only one that the loader reads."),
]
LabelsFile = Annotated[
    Path | None,
    typer.Option(
        "--labels", metavar="MANIFEST", help="Train and validate on the labels of this manifest, image by image."
    ),
]
LabelSpaceName = Annotated[
    str | None, typer.Option("--label-space", metavar="NAME", help="Outputs, and rows left out. Default: nvum-nih.")
]
ModelName = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="densenet121 (default), small, or timm:NAME.")
]
LossOption = Annotated[str | None, typer.Option("--loss", metavar="NAME", help=LOSSES)]
Epochs = Annotated[
    int | None, typer.Option("--epochs", metavar="N", help="Passes over the training rows. Default: 30.")
]
Recipe = Annotated[
    str | None,
    typer.Option("--recipe", metavar="FILE|NAME", help="Settings in TOML, or a shipped recipe: nvum-nih, ..."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One setting; may be repeated; wins over the recipe."),
]

KEYS = {
    "--loader": ("loader", "backend"),
    "--pack": ("data", "pack"),
    "--labels": ("data", "labels"),
    "--label-space": ("data", "label_space"),
    "--model": ("model", "name"),
    "--loss": ("loss", "name"),
    "--epochs": ("run", "epochs"),
    "--no-verify": ("loader", "verify"),
    "--on-corrupt": ("loader", "on_corrupt"),
}
"""Option -> section and key of the setting that it stands for."""


def settings(options: Mapping[str, object], *, recipe: str | None, assignments: Sequence[str] | None) -> "Values":
    """Return what a command line asks for, checked, without the defaults.

    Args:
        options: name of an option, a key of `KEYS` -> its value; None: not given.
        recipe: value of `--recipe`.
        assignments: values of `--set`.

    Raises:
        ConfigError: names the source of what cannot be: the file, ``--set`` or the option.
    """
    from trainer.recipe import given  # torch takes a second to import: `--help` must not wait for it

    values: dict[str, Values] = {}
    for option, value in options.items():
        if value is not None:
            section, key = KEYS[option]
            values[option] = {section: {key: str(value) if isinstance(value, Path) else value}}
    return given(recipe=recipe, assignments=assignments or (), options=values)
