"""What every benchmark shares: a summary of timings, and one CSV row with versions and hardware.

A benchmark runs its contenders interleaved and many times in one process of measurement, prints ratios, and appends one
row a contender to ``tools/results/<benchmark>.csv``.
"""

import csv
import io
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from manifests.atomic import write_bytes_atomically
from pipeline.cores import cpu_model

PROJECT = Path(__file__).resolve().parent.parent
"""Root of the project's checkout."""

RESULTS = Path(os.environ.get("CXR_RESULTS", PROJECT / "tools" / "results"))
"""Folder of the result tables; a trial run writes to another one (`CXR_RESULTS`)."""

PACKAGES = ("torch", "numpy", "polars", "pyarrow")


class Summary(NamedTuple):
    """Median and spread of repeated measurements, in their own unit."""

    median: float
    min: float
    max: float


def summarise(times: Sequence[float]) -> Summary:
    """Return median, smallest and largest of `times`.

    Raises:
        ValueError: `times` is empty.
    """
    if not times:
        raise ValueError("summarise: no measurements")
    return Summary(statistics.median(times), min(times), max(times))


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Append `row` to the CSV file `path`, after the columns that say when, where and with what it was measured.

    The file is created where it is missing; a column that older rows lack stays empty in them.
    """
    header: list[str] = []
    rows: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            header = list(reader.fieldnames or ())
    new = {name: str(value) for name, value in (environment() | dict(row)).items()}
    header += [name for name in new if name not in header]
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows([*rows, new])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, text.getvalue().encode())


def environment() -> dict[str, object]:
    """Return the columns that every row begins with: date (UTC), revision, command, hardware and versions."""
    columns: dict[str, object] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "revision": git_revision(),
        "command": command_line(),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            columns[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            columns[package] = ""
    return columns


def command_line() -> str:
    """Return how this process was started, as one types it in the project's root.

    Of absolute paths only the last name stays: where a machine has its data is nobody else's business.
    """
    module = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["python", "-m", module.name] if module is not None else [Path(sys.argv[0]).name]
    arguments = [re.sub(r"(^|=)/.*/", r"\1.../", argument) for argument in sys.argv[1:]]
    return shlex.join([*program, *arguments])


def git_revision() -> str:
    """Return the short commit of the checkout, with ``+`` where tracked files differ; empty without git."""
    try:
        revision = _git("rev-parse", "--short", "HEAD")
        return revision + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=PROJECT, check=True, capture_output=True, text=True, timeout=10
    ).stdout.strip()
