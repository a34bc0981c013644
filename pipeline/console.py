"""What both command lines share: user errors in one line with exit code 2, logging, tables and progress bars.

The console is a view: whatever matters is also in a file or in the exit code.
"""

import io
import logging
import sys
from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from manifests.errors import UserError

USER_ERROR_EXIT_CODE = UserError.exit_code
INTERRUPTED_EXIT_CODE = 130

out = Console(highlight=False, soft_wrap=True, emoji=False)
"""Standard output: summaries and tables. A path or a name with colons, `Mass:a:b`, is no emoji."""

err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
"""Standard error: progress bars, warnings, errors."""


def run_command_line(app: Callable[[], object]) -> None:
    """Run a Typer app; a `UserError` becomes its message on standard error and its exit code, Ctrl-C 130.

    Anything else is a fault of ours and keeps its traceback.
    """
    set_up_logging()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may hold what the locale cannot write
    try:
        app()
    except UserError as error:
        err.print(f"error: {error}", style="red", markup=False)
        sys.exit(error.exit_code)
    except SystemExit as ending:
        # Typer takes Ctrl-C for itself and leaves with this code without a word.
        cause = getattr(ending.__context__, "__cause__", None)
        if ending.code == INTERRUPTED_EXIT_CODE and isinstance(cause, KeyboardInterrupt):
            err.print("interrupted", style="red")
        raise


def set_up_logging() -> None:
    """Send warnings of the packages to standard error, one line each; only command lines call this."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr, force=True)


def progress_bar(unit: str) -> Progress:
    """Return a progress display on standard error: what, a bar, n of m `unit`, elapsed and remaining time.

    It is silent where standard error is no terminal, so that logs stay readable.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TaskProgressColumn(show_speed=True),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
    )
