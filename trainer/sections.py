"""Configuration dataclasses from plain mappings (TOML, JSON) and back, strictly.

A configuration is a dataclass of sections, each a frozen dataclass of simple fields. Every value is checked against the
type of its field before anything is built, so that an error names the key, what was found and what was expected.
"""

import dataclasses
import types
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from manifests.errors import ConfigError

Values = dict[str, dict[str, Any]]
"""section -> key -> value."""

T = TypeVar("T")

_SAMPLER = "every sample comes once an epoch; imbalance is met by loss weights and the prior, never by resampling"
REFUSED = {"sampler": _SAMPLER, "resampling": _SAMPLER, "class_balanced": _SAMPLER, "oversampling": _SAMPLER}
"""Keys that people look for and that are left out on purpose, with the reason."""

NONE = "none"
"""How a recipe or ``--set`` writes the absence of an optional value: TOML has no null."""


def check(config: type, values: Mapping[str, object], *, source: str) -> Values:
    """Return `values` with each value in the type of its field of `config`, a dataclass of sections.

    Args:
        config: dataclass whose fields are dataclasses.
        values: section -> key -> value, as read from TOML or JSON; any part may be missing.
        source: where they come from, for the messages: a file, ``--set``, an option.

    Raises:
        ConfigError: an unknown section or key (with the nearest name), or a value of another type.
    """
    sections = get_type_hints(config)
    checked: Values = {}
    for section, keys in values.items():
        if section not in sections:
            raise ConfigError(f"{source}: no section {section!r}{_nearest(section, sections)}")
        if not isinstance(keys, Mapping):
            raise ConfigError(f"{source}: {section} is a section of keys, found {_shown(keys)}")
        hints = get_type_hints(sections[section])
        checked[section] = {}
        for key, value in keys.items():
            if key not in hints:
                why = f": {REFUSED[key]}" if key in REFUSED else _elsewhere(key, sections) or _nearest(key, hints)
                raise ConfigError(f"{source}: section {section} has no key {key!r}{why}")
            try:
                checked[section][key] = _convert(value, hints[key])
            except TypeError as error:
                raise ConfigError(f"{source}: {section}.{key}: found {_shown(value)}, expected {error}") from error
    return checked


def build(config: type[T], values: Mapping[str, object], *, source: str) -> T:
    """Return `config` with `values` over its defaults.

    Raises:
        ConfigError: as `check`, or a combination that a section refuses.
    """
    sections = get_type_hints(config)
    checked = check(config, values, source=source)
    return config(**{name: sections[name](**checked.get(name, {})) for name in sections})


def as_values(config: object) -> Values:
    """Return a configuration as section -> key -> value, with lists for tuples: what JSON can hold."""
    return {
        section: {key: list(value) if isinstance(value, tuple) else value for key, value in keys.items()}
        for section, keys in dataclasses.asdict(config).items()  # type: ignore[call-overload]
    }


def _convert(value: object, expected: Any) -> object:
    """Return `value` in the type `expected`; raises TypeError with what was expected."""
    origin = get_origin(expected)
    if origin in (Union, types.UnionType):
        return _convert_optional(value, expected)
    if origin is Literal:
        choices = get_args(expected)
        if value not in choices or isinstance(value, bool):
            near = f"; did you mean {near_choice}?" if (near_choice := _near(value, choices)) else ""
            raise TypeError(f"one of {', '.join(map(str, choices))}{near}")
        return value
    if origin is tuple:
        return _convert_tuple(value, expected)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if expected in _NAMES and isinstance(value, expected) and (expected is bool or not isinstance(value, bool)):
        return value
    raise TypeError(_described(expected))


def _convert_optional(value: object, expected: Any) -> object:
    kinds = [kind for kind in get_args(expected) if kind is not type(None)]
    if len(kinds) < len(get_args(expected)) and (value is None or value == NONE):
        return None
    for kind in kinds:
        try:
            return _convert(value, kind)
        except TypeError:
            continue
    raise TypeError(_described(expected))


def _convert_tuple(value: object, expected: Any) -> tuple[object, ...]:
    items = get_args(expected)
    if not isinstance(value, list | tuple):
        raise TypeError(_described(expected))
    kinds = [items[0]] * len(value) if items[-1:] == (...,) else list(items)
    if len(kinds) != len(value):
        raise TypeError(_described(expected))
    try:
        return tuple(_convert(item, kind) for item, kind in zip(value, kinds, strict=True))
    except TypeError as error:
        raise TypeError(_described(expected)) from error


_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}


def _described(expected: Any) -> str:
    origin, arguments = get_origin(expected), get_args(expected)
    if origin in (Union, types.UnionType):
        return " or ".join(NONE if kind is type(None) else _described(kind) for kind in arguments)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        if arguments[-1:] == (...,):
            return f"a list of which each item is {_described(arguments[0])}"
        return f"a list of {len(arguments)}: {', '.join(map(_described, arguments))}"
    return _NAMES.get(expected, str(expected))


def _shown(value: object) -> str:
    kinds = {**_NAMES, bool: "a truth value", list: "a list", tuple: "a list", dict: "a table", type(None): "nothing"}
    return f"{value!r} ({kinds.get(type(value), type(value).__name__)})"


def _near(name: object, names: Any) -> str:
    near = get_close_matches(str(name), [str(other) for other in names], n=1)
    return near[0] if near else ""


def _elsewhere(key: str, sections: Mapping[str, Any]) -> str:
    """Return the end of a message about a key that other sections have; nothing where none has it."""
    found = [f"{section}.{key}" for section, config in sections.items() if key in get_type_hints(config)]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _nearest(name: str, names: Any) -> str:
    """Return the end of a message about an unknown name: the nearest one, and all there are."""
    near = _near(name, names)
    return f"{f'; did you mean {near}?' if near else ''} (there are: {', '.join(names)})"
