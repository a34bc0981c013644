"""Names of the formats that a pack's pixels can be stored in, and how to train on each."""

import shlex
from pathlib import Path
from typing import Literal

PackFormat = Literal["raw", "tar", "beton"]
"""`raw`: pixels as they are; `tar`: JPEG or PNG; `beton`: one file of FFCV's."""

LOADERS: dict[PackFormat, str] = {"raw": "raw", "tar": "dali", "beton": "ffcv"}
"""Format -> the loader that it is made for."""


def training_command(pack_format: PackFormat, colour: str, folder: Path | None) -> str:
    """Return the command that trains on a pack: the one in `folder`, or the only one of its kind in the workspace."""
    if colour != "gray":
        return "read it with FFCV; cxr-train reads gray betons"
    loader = "" if pack_format == "raw" else f" --loader {LOADERS[pack_format]}"  # raw is what cxr-train takes unasked
    return f"cxr-train{loader}" + ("" if folder is None else f" --pack {shlex.quote(str(folder))}")
