"""Where a configuration comes from: defaults, then a recipe, then ``--set``, then options; the later one wins."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from manifests.errors import ConfigError
from pipeline.augment import AugmentConfig
from trainer.config import TrainConfig
from trainer.sections import Values, check

RECIPES = Path(str(files("trainer"))) / "recipes"
"""Folder of the recipes that come with the package."""


def given(*, recipe: str | None, assignments: Iterable[str], options: Mapping[str, Values]) -> Values:
    """Return what a command line asks for, checked, without the defaults.

    Args:
        recipe: name of a shipped recipe or path of a TOML file.
        assignments: ``section.key=value`` each, the value as TOML writes it; quotes around a bare word may be left out.
        options: name of an option -> the values that it stands for, for options that were given.

    Raises:
        ConfigError: names the source of what cannot be: the file, ``--set`` or the option.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if recipe is not None:
        path = find_recipe(recipe)
        layers.append((str(path), read_recipe(path)))
    layers += [(f"--set {assignment}", parse_assignment(assignment)) for assignment in assignments]
    layers += options.items()
    merged: Values = {}
    for source, values in layers:
        for section, keys in check(TrainConfig, _spelt_out(values, source), source=source).items():
            merged.setdefault(section, {}).update(keys)
    return merged


def _spelt_out(values: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """Return `values` with the values of the recipe that `augment.recipe` names, those beside it on top."""
    augment = values.get("augment")
    if not isinstance(augment, Mapping) or "recipe" not in augment:
        return values
    others = {key: value for key, value in augment.items() if key != "recipe"}
    try:
        named = asdict(AugmentConfig.named(str(augment["recipe"])))
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    return {**values, "augment": named | others}


def find_recipe(name: str) -> Path:
    """Return the file of a recipe: a path that exists, else one of the shipped names.

    Raises:
        ConfigError: neither; the message lists the names.
    """
    return find_shipped(name, RECIPES, kind="recipe", option="--recipe ")


def find_shipped(name: str, folder: Path, *, kind: str, option: str = "") -> Path:
    """Return the TOML file `name` where it exists, else the one of that name in `folder`, which the package ships.

    Raises:
        ConfigError: neither; the message begins with `option`, says the `kind` and lists the names.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    if name in shipped:
        return shipped[name]
    near = get_close_matches(name, shipped, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"{option}{name}: no such file and no such {kind}{hint} (there are: {', '.join(shipped)})")


def read_recipe(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        ConfigError: it cannot be read or is not TOML; the message says where.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def parse_assignment(assignment: str) -> Values:
    """Return what one ``section.key=value`` sets.

    Raises:
        ConfigError: it has another form.
    """
    name, equals, text = assignment.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and section and key):
        raise ConfigError(f"--set {assignment}: expected section.key=value, as in --set loss.reg_weight=0.5")
    return {section: {key: _parse_value(text.strip())}}


def _parse_value(text: str) -> object:
    """Return the TOML value `text`; what is not TOML is a bare word: ``--set loss.name=bce`` needs no quotes."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text
