"""The errors that are the user's to repair; the command line shows them in one place and exits with code 2."""

from collections.abc import Sequence
from typing import ClassVar


class UserError(Exception):
    """Base of every error that a user can repair: the message says where, what was found, what was expected."""

    exit_code: ClassVar[int] = 2
    """What the command line ends with."""


class ConfigError(UserError):
    """An option, a recipe or a combination of them that cannot work."""


class ManifestError(UserError):
    """A release or a manifest that cannot be used as it is.

    All problems that were found are reported together: ``ManifestError("FILE: 2 problems", problems=[...])``.
    """

    SHOWN = 20

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        lines = [message, *(f"  {problem}" for problem in self.problems[: self.SHOWN])]
        if len(self.problems) > self.SHOWN:
            lines.append(f"  ... and {len(self.problems) - self.SHOWN:,} more")
        super().__init__("\n".join(lines))
