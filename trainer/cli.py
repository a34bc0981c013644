"""`cxr-train`: from a pack to a trained model, and from that to numbers."""

import typer

from pipeline.console import run_command_line
from trainer.commands.evaluate import evaluate
from trainer.commands.train import HELP, train

app = typer.Typer(
    name="cxr-train",
    help=HELP,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
# The bare command trains; a callback, since a second command would take that place from a first one.
app.callback(invoke_without_command=True, help=HELP)(train)
for command in (evaluate,):
    app.command()(command)


def main() -> None:
    """Run `cxr-train`."""
    run_command_line(app)


if __name__ == "__main__":
    main()
