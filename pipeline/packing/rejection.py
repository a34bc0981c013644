"""Why an image has no pixels in a pack."""

import re
from enum import StrEnum


class Reason(StrEnum):
    """The machine words of rejected.parquet; new ones may be added, none changes its meaning."""

    MISSING_FILE = "missing_file"
    """There is no file at the manifest's path."""

    UNREADABLE_FILE = "unreadable_file"
    """The file is there and the operating system does not give its bytes."""

    EMPTY_FILE = "empty_file"
    """A file of no bytes."""

    NOT_AN_IMAGE = "not_an_image"
    """Not of a format that is read, by its first bytes."""

    UNSUPPORTED = "unsupported"
    """An image whose pixels have no meaning as gray here (16-bit colour, CMYK), or whose decoder is not installed."""

    ANIMATED = "animated"
    """More than one picture in the file: an animation, several pages or frames."""

    ZERO_SIZE = "zero_size"
    """Its header says no rows or no columns."""

    TOO_LARGE = "too_large"
    """Its header says more pixels than a radiograph has, or the file more bytes."""

    CORRUPT = "corrupt"
    """Damaged or cut short."""

    CONSTANT = "constant"
    """Every pixel is the same: nothing was exposed, or the export failed."""


MAX_DETAIL = 200
"""Characters of a decoder's message that are kept."""


class Rejection(Exception):
    """An image that cannot be packed; the pack goes on without it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.replace('_', ' ')}: {detail}")
        self.reason = reason
        self.detail = detail

    @classmethod
    def of_damage(cls, error: Exception) -> "Rejection":
        """Return what a decoder's error over a damaged file comes to: one line, the same on every run."""
        detail = re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split()))
        return cls(Reason.CORRUPT, detail[:MAX_DETAIL] or type(error).__name__)
