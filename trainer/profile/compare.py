"""A profile beside an older one: for people's own CI."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from manifests.atomic import write_bytes_atomically
from manifests.errors import ConfigError
from trainer.profile.measurements import SCHEMA, Measurements, as_values, from_values
from trainer.profile.model import limits_of
from trainer.profile.split import splits
from trainer.profile.verdict import images_per_s, verdict_of
from trainer.profile.what_if import what_ifs


class Compared(NamedTuple):
    """One rate of two profiles."""

    what: str
    old_images_per_s: float
    new_images_per_s: float
    tolerance: float

    @property
    def change(self) -> float:
        """Share by which the rate grew."""
        return self.new_images_per_s / self.old_images_per_s - 1

    @property
    def is_regression(self) -> bool:
        """Whether it is slower by more than the tolerance."""
        return self.change < -self.tolerance


def write_profile(path: Path, measured: Measurements) -> None:
    """Write measurements, verdict and what-ifs as JSON; only the measurements are read again.

    Raises:
        ConfigError: it cannot be written.
    """
    verdict = verdict_of(measured)
    content = {
        "schema": SCHEMA,
        "verdict": {"cause": verdict.cause, **asdict(verdict)},
        "what_if": [asdict(row) for row in what_ifs(measured)],
        "measurements": as_values(measured),
    }
    try:
        write_bytes_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error})") from error


def read_profile(path: Path) -> Measurements:
    """Return the measurements of a file that `write_profile` wrote.

    Raises:
        ConfigError: no such file, or another content.
    """
    again = "make one with `cxr-train profile --json FILE`"
    try:
        content: Any = json.loads(path.read_bytes())
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise ValueError(f"expected the schema {SCHEMA}")
        return from_values(content["measurements"])
    except OSError as error:
        raise ConfigError(f"--compare {path}: cannot be read ({error}); {again}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--compare {path}: no profile of this version ({error}); {again}") from error


def tolerance_of(text: str) -> float:
    """Return the share that `10%` or `0.1` means.

    Raises:
        ConfigError: neither, or not between 0 and 1.
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(%?)", text.strip())
    share = float(found[1]) / (100 if found[2] else 1) if found else -1.0
    if not 0 <= share < 1:
        raise ConfigError(f"--tolerance {text}: expected a share as in 10% or 0.1, less than 100%")
    return share


def compared(old: Measurements, new: Measurements, *, tolerance: float) -> list[Compared]:
    """Return the rates that training depends on, of both.

    Raises:
        ConfigError: they are profiles of different things; names what differs.
    """
    before, after = asdict(old.subject), asdict(new.subject)
    differ = [f"{name} {before[name]} and {after[name]}" for name in before if before[name] != after[name]]
    if differ:
        raise ConfigError(
            f"--compare: profiles of different things: {', '.join(differ)}; profile with the settings of the old one"
        )
    rates: dict[str, Callable[[Measurements], float]] = {
        "steps as they run": lambda found: images_per_s(splits([rank.epoch for rank in found.ranks])),
        "step on a constant batch": lambda found: images_per_s(splits([rank.synthetic for rank in found.ranks])),
    }
    if limits_of(old).loader_s:
        rates["loader by itself"] = lambda found: 1 / limits_of(found).loader_s
    return [Compared(what, rate(old), rate(new), tolerance) for what, rate in rates.items()]


def other_hardware(old: Measurements, new: Measurements) -> list[str]:
    """Return what differs in the machines of two profiles, as words."""
    names = ("cpu", "num_cores", "gpu", "driver")
    before, after = asdict(old.environment), asdict(new.environment)
    return [f"{name}: {before[name]} then, {after[name]} now" for name in names if before[name] != after[name]]
