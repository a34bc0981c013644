"""Choices that only one dataset has, given as `--option KEY=VALUE`, and presets of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from manifests.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Option:
    """One choice: what it is by default and what it may be."""

    default: str
    """Value where nobody chose; several are joined by commas."""

    values: tuple[str, ...] = ()
    """Allowed values; none: any text."""

    many: bool = False
    """Whether several values may be given, joined by commas."""

    help: str
    """What it decides, in one sentence."""

    def check(self, name: str, value: str) -> None:
        """Refuse what is not allowed.

        Raises:
            ConfigError: naming what is.
        """
        parts = value.split(",") if self.many else [value]
        unknown = [part for part in parts if self.values and part not in self.values]
        if unknown or (self.many and len(set(parts)) < len(parts)):
            found = f"{', '.join(map(repr, unknown))} unknown" if unknown else "a value stands twice"
            several = "; several are joined by commas" if self.many else ""
            raise ConfigError(f"--option {name}={value}: {found} (there are: {', '.join(self.values)}{several})")


def resolve_options(
    dataset: str,
    options: Mapping[str, Option],
    presets: Mapping[str, Mapping[str, str]],
    *,
    preset: str | None,
    given: Mapping[str, str],
) -> dict[str, str]:
    """Return the value of every option: what was given, else what the preset says, else the default.

    Raises:
        ConfigError: an option, a value or a preset that the dataset does not have; the message lists those it has.
    """
    for name in given:
        if name not in options:
            raise ConfigError(f"--option {name}: {_unknown(name, options)} of dataset {dataset}")
    if preset is not None and preset not in presets:
        raise ConfigError(f"--preset {preset}: {_unknown(preset, presets)} of dataset {dataset}")
    chosen = {name: option.default for name, option in options.items()}
    chosen |= presets[preset] if preset is not None else {}
    chosen |= given
    for name, option in options.items():
        option.check(name, chosen[name])
    return chosen


def parse_assignments(texts: Sequence[str]) -> dict[str, str]:
    """Return KEY -> VALUE of texts such as ``views=PA,AP``.

    Raises:
        ConfigError: one is none, or a key stands twice.
    """
    given: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"--option {text}: expected KEY=VALUE; `cxr-prep datasets NAME` lists the keys")
        if name in given:
            raise ConfigError(f"--option {name}: given twice")
        given[name] = value
    return given


def _unknown(name: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"unknown{hint} (there are: {', '.join(known) or 'none'})"
