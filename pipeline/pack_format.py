"""Names of the formats that a pack's pixels can be stored in."""

from typing import Literal

PackFormat = Literal["raw", "tar", "beton"]
"""`raw` is what this version writes and reads; the others have their place in names and files."""
