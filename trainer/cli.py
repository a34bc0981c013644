"""`cxr-train`: from a pack to a trained model, and from that to numbers."""

from typing import Any

import typer
from typer.core import TyperGroup

from pipeline.console import run_command_line
from trainer.commands.compare import compare
from trainer.commands.evaluate import evaluate
from trainer.commands.export import export
from trainer.commands.predict import predict
from trainer.commands.profile import profile
from trainer.commands.suspects import suspects
from trainer.commands.train import HELP, RESUME_AUTO, RESUME_LAST, train
from trainer.quiet_start import leaving_at_once, quiet_start


class _Commands(TyperGroup):
    """Commands of which `--resume` may stand alone or be followed by `auto`: Typer has no such options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, `--resume` with its value."""
        read: list[str] = []
        for argument in args:
            if argument == RESUME_AUTO and read[-1:] == [f"--resume={RESUME_LAST}"]:
                read[-1] = f"--resume={RESUME_AUTO}"
            else:
                read.append(f"--resume={RESUME_LAST}" if argument == "--resume" else argument)
        return super().parse_args(ctx, read)


app = typer.Typer(
    name="cxr-train",
    cls=_Commands,
    help=HELP,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
# The bare command trains; a callback, since a second command would take that place from a first one.
app.callback(invoke_without_command=True, help=HELP)(train)
for command in (evaluate, compare, suspects, export, predict, profile):
    app.command()(command)


def main() -> None:
    """Run `cxr-train`."""
    with leaving_at_once(), quiet_start():
        run_command_line(app)


if __name__ == "__main__":
    main()
