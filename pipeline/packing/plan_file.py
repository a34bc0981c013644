"""Comparing what a pack was to become, or has become, with what is wanted now, in the words of the command line."""

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.encoding import OPTIONS as ENCODING_OPTIONS
from pipeline.errors import PackError

OPTIONS = {"format": "--format", "resize": "--resize", "bits": "--bits", "exact": "--exact"} | ENCODING_OPTIONS
"""Field of a plan -> option of `cxr-prep pack` that decides it; height and width are `--size`."""

NOT_THERE = "not there"


def compare_plans(folder: Path, found: bytes, wanted: bytes) -> None:
    """Return if an interrupted pack is the one that is wanted now.

    Raises:
        PackError: it is not; the message says what differs.
    """
    if found == wanted:
        return
    try:
        was, now = dict(json.loads(found)), json.loads(wanted)
    except (ValueError, TypeError) as error:
        raise PackError(f"{folder}: its plan.json is broken; delete the folder and start over") from error
    raise PackError(
        "\n  ".join(
            [
                f"{folder}: an interrupted pack of something else; repeat its options, or delete it to start over",
                *differences(was, now),
            ]
        )
    )


def differences(was: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Return a line for everything that differs between two plans: `--size was 256, is now 512`."""
    then, today = in_options(was), in_options(now)
    names = [*today, *(name for name in then if name not in today)]
    return [
        f"{name} was {then.get(name, NOT_THERE)}, is now {today.get(name, NOT_THERE)}"
        for name in names
        if then.get(name, NOT_THERE) != today.get(name, NOT_THERE)
    ]


def in_options(plan: Mapping[str, object]) -> dict[str, str]:
    """Return the fields of a plan as text, by the option that decides them where there is one."""
    fields = dict(plan)
    shown = {}
    if "height_px" in fields and "width_px" in fields:
        height, width = fields.pop("height_px"), fields.pop("width_px")
        shown["--size"] = str(height) if height == width else f"{height}x{width}"
    return shown | {OPTIONS.get(name, name): str(value) for name, value in fields.items()}
