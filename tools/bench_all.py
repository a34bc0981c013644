"""Every benchmark of the repository, one after the other; then the README's tables from what they wrote.

    python -m tools.bench_all --images DIR --labels FILE
    python -m tools.bench_all --list
    python -m tools.bench_all --only loader step
    python -m tools.bench_all --quick

The commands are those of ``tools/measured.toml``, which are those beside the numbers in the README. One that needs real
data that was not given, or a GPU that is not there, is left out and said to be. One that fails does not stop the rest;
at the end the failed ones are named, and the exit code is 1. `--quick` runs each on next to nothing, writes its rows to
a folder that is thrown away, and leaves the README alone: do they all still run?
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tools import measured
from tools.benchmark import PROJECT


class Benchmark(NamedTuple):
    """A command that measures something."""

    command: str
    """As one types it; DIR and FILE stand for data of one's own."""

    minutes: float
    """How long it takes on two cores, about."""

    needs_gpu: bool
    """Whether it is of use on CUDA only."""

    quick: str | None
    """What is run instead to see whether it runs; None: another entry shows it."""

    @property
    def module(self) -> str:
        """The part of its name that tells it from the others: `loader` of `tools.bench_loader`."""
        return self.command.split()[2].removeprefix("tools.bench_")


def main() -> None:
    """Run what was asked for; exit with 1 where something failed."""
    options = parsed(sys.argv[1:])
    chosen = [one for one in benchmarks() if not options.only or one.module in options.only]
    if options.list:
        for one in chosen:
            print(f"{one.minutes:4.0f} min  {one.command}{'  (GPU)' if one.needs_gpu else ''}")
        print(f"{sum(one.minutes for one in chosen if not one.needs_gpu):4.0f} min  in all, without a GPU")
        return
    data = {"DIR": options.images, "FILE": options.labels}
    if options.quick:
        with tempfile.TemporaryDirectory(prefix="bench-all-") as folder:
            failed = run([one.quick for one in chosen if one.quick], environment={"CXR_RESULTS": folder})
    else:
        failed = run([filled(one.command, data) for one in chosen if not reason_to_leave_out(one, data)])
        for one in chosen:
            if reason := reason_to_leave_out(one, data):
                print(f"left out, {reason}: {one.command}")
        measured.main()
        print("README.md: tables rewritten")
    for command in failed:
        print(f"failed: {command}", file=sys.stderr)
    sys.exit(bool(failed))


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_all", description="Every benchmark.")
    names = sorted({one.module for one in benchmarks()})
    parser.add_argument("--only", nargs="+", choices=names, default=[], metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--images", type=Path, help="folder of PNG films, for those that pack real ones")
    parser.add_argument("--labels", type=Path, help="label file of ChestX-ray14, the official lists beside it")
    parser.add_argument("--quick", action="store_true", help="does each run at all? writes nothing")
    parser.add_argument("--list", action="store_true", help="show commands and how long they take")
    return parser.parse_args(arguments)


def benchmarks() -> list[Benchmark]:
    """Return what `measured.toml` lists."""
    return [
        Benchmark(entry["command"], entry["minutes"], entry.get("needs_gpu", False), entry.get("quick"))
        for entry in measured.declared()["benchmark"]
    ]


def reason_to_leave_out(one: Benchmark, data: Mapping[str, Path | None]) -> str:
    """Return why a benchmark cannot be run here; empty: it can."""
    if one.needs_gpu and shutil.which("nvidia-smi") is None:
        return "no GPU"
    missing = [word for word in one.command.split() if word in data and data[word] is None]
    options = {"DIR": "--images", "FILE": "--labels"}
    return f"no {options[missing[0]]}" if missing else ""


def filled(command: str, data: Mapping[str, Path | None]) -> str:
    """Return the command with the paths of one's own data."""
    return shlex.join(str(data.get(word) or word) for word in command.split())


def run(commands: Sequence[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """Run the commands in the project's root, their output on this console; return those that failed."""
    failed = []
    for command in commands:
        print(f"== {command}", flush=True)
        begin_s = time.monotonic()
        words = [sys.executable, *shlex.split(command)[1:]]
        done = subprocess.run(words, cwd=PROJECT, env=os.environ | dict(environment or {}), check=False)
        print(f"== {time.monotonic() - begin_s:.0f} s", flush=True)
        if done.returncode:
            failed.append(command)
    return failed


if __name__ == "__main__":
    main()
