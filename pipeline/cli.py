"""`cxr-prep`: from a raw release to a manifest, and from a manifest to a pack."""

import typer

from pipeline.commands.build_manifest import build_manifest
from pipeline.commands.datasets import datasets
from pipeline.commands.info import info
from pipeline.commands.inject_noise import inject_noise
from pipeline.commands.label_space import label_space
from pipeline.commands.merge import merge
from pipeline.commands.pack import pack
from pipeline.commands.stats import stats
from pipeline.commands.verify import verify
from pipeline.console import run_command_line

app = typer.Typer(
    name="cxr-prep",
    help=(
        "Turn chest X-ray releases into manifests and packs.\n\n"
        "The short way: `cxr-prep build-manifest --dataset nih --root DIR`, then `cxr-prep pack`, "
        "then `cxr-train`. Files lie in ./cxr-data unless CXR_HOME names another folder."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for command in (datasets, build_manifest, merge, inject_noise, stats, pack, verify, info):
    app.command()(command)
app.add_typer(label_space)


def main() -> None:
    """Run `cxr-prep`."""
    run_command_line(app)


if __name__ == "__main__":
    main()
