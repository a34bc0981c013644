"""Comparing what an interrupted pack was to become with what is wanted now."""

import json
from pathlib import Path

from pipeline.errors import PackError


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
    names = [*now, *(name for name in was if name not in now)]
    differs = "\n  ".join(
        f"{name} was {shown(was, name)}, is now {shown(now, name)}"
        for name in names
        if shown(was, name) != shown(now, name)
    )
    raise PackError(
        f"{folder}: an interrupted pack of something else; repeat its options, or delete it to start over\n  {differs}"
    )


def shown(plan: dict[str, object], name: str) -> str:
    """Return a value of a plan for people."""
    return str(plan[name]) if name in plan else "not there"
