"""The project's command lines as the demo calls them: shown as one types them, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from pipeline.console import err

COMMANDS = {"pipeline.cli": "cxr-prep", "trainer.cli": "cxr-train"}


class CommandError(Exception):
    """A command of the demo failed; holds what it printed on standard output."""


def command(module: str, *arguments: str, home: Path, is_last: bool = False) -> None:
    """Run one of the command lines, as a user would.

    Args:
        module: a key of `COMMANDS`.
        arguments: what follows the command's name.
        home: the workspace.
        is_last: whether what it prints on standard output is what the demo has to say; otherwise it is kept back.

    Raises:
        CommandError: it failed.
    """
    line = f"{COMMANDS[module]} {' '.join(arguments)}"
    err.print(f"$ {line}", style="bold", markup=False)
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"CXR_HOME": str(home)},
        stdout=None if is_last else subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CommandError(f"{line}: exit code {done.returncode}\n{done.stdout or ''}")
