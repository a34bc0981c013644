"""A comparison's TOML, read strictly: what is not known is refused with the nearest name.

::

    [compare]                       # CompareConfig
    out = "cxr-data/comparisons/first"
    seeds = [0, 1, 2]
    baseline = "BCE"                # the first method by default
    reference = "clean labels"      # optional

    [base]                          # what all runs have in common: a recipe, and settings as in one
    recipe = "small-cpu"
    [base.run]
    epochs = 20

    [[data]]                        # optional; settings and a recipe of its own may follow
    name = "nih"
    pack = "cxr-data/packs/nih-256-raw"

    [[test]]                        # optional; the run's own pack, split test, by default
    name = "OpenI"
    pack = "cxr-data/packs/openi-256-raw"

    [[method]]
    name = "BCE"
    [method.loss]
    name = "bce"

    [[method]]
    preset = "ablation"
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from manifests.errors import ConfigError
from trainer.compare.plan import CompareConfig, DataSet, Method, Plan, TestSet, merged, refuse_doubles
from trainer.compare.plan_tables import PlanFile
from trainer.compare.presets import PRESETS
from trainer.recipe import RECIPES, find_shipped, given, read_recipe
from trainer.sections import Values, check

PLANS = RECIPES / "comparisons"
"""Folder of the comparisons that come with the package."""

T = TypeVar("T")


LISTS = ("data", "test", "method")


def read_plan(name: str, *, out: Path | None = None) -> Plan:
    """Return the comparison in a TOML file, or a shipped one of that name.

    Args:
        name: path of the file, or name of a shipped comparison.
        out: folder of the comparison, instead of the file's.

    Raises:
        ConfigError: says where, what was found and what was expected.
    """
    file = find_plan(name)
    content = read_recipe(file)
    _refuse_other_tables(content, str(file))
    compare_values = content.get("compare", {})
    if out is not None and isinstance(compare_values, Mapping):
        compare_values = {**compare_values, "out": str(out)}
    compare = _built(CompareConfig, "compare", compare_values, f"{file}: [compare]")
    base = _settings("base", content.get("base", {}), f"{file}: [base]")[1]
    data = tuple(_data_sets(content, file)) or (DataSet(name="", settings={}),)
    methods = tuple(_methods(content, file))
    tests = tuple(_tests(content, file)) or (TestSet(),)
    for role in ("baseline", "reference"):
        wanted = getattr(compare, role)
        if wanted is not None and wanted not in (names := [method.name for method in methods]):
            near = get_close_matches(wanted, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"{file}: compare.{role}={wanted!r}: no such method{hint} (there are: {', '.join(names)})"
            )
    plan = Plan(
        file=file, out=Path(compare.out), compare=compare, data=data, methods=methods, tests=tests, base=base
    )  # fmt: skip
    if compare.reference == plan.baseline:
        raise ConfigError(f"{file}: compare.reference={compare.reference!r} is the baseline; expected another method")
    _refuse_seeds(plan)
    return plan


def find_plan(name: str) -> Path:
    """Return the file of a comparison: a path that exists, else one of the shipped names.

    Raises:
        ConfigError: neither; the message lists the names.
    """
    return find_shipped(name, PLANS, kind="comparison")


def _refuse_other_tables(content: Mapping[str, Any], source: str) -> None:
    check(PlanFile, {name: {} for name in content}, source=source)
    for name in LISTS:
        if name in content and not isinstance(content[name], list):
            raise ConfigError(f"{source}: {name} is a list of tables; write [[{name}]] above each of them")


def _tables(content: Mapping[str, Any], name: str, file: Path) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield each table of a list and where it is, for messages."""
    for number, values in enumerate(content.get(name, []), start=1):
        of = f" {values['name']!r}" if isinstance(values, Mapping) and isinstance(values.get("name"), str) else ""
        yield values, f"{file}: [[{name}]] number {number}{of}"


def _data_sets(content: Mapping[str, Any], file: Path) -> Iterator[DataSet]:
    names = []
    for values, source in _tables(content, "data", file):
        table, settings = _settings("data", values, source)
        if not isinstance(table.get("name"), str):
            raise ConfigError(f"{source}: expected a name")
        chosen = {key: table[key] for key in ("pack", "labels", "label_space") if table.get(key) is not None}
        names.append(table["name"])
        own = given(recipe=None, assignments=(), options={source: {"data": chosen}} if chosen else {})
        yield DataSet(name=table["name"], settings=merged(settings, own))
    refuse_doubles(names, "data set", str(file))


def _methods(content: Mapping[str, Any], file: Path) -> Iterator[Method]:
    found: dict[str, Method] = {}
    names = []
    for values, source in _tables(content, "method", file):
        table, settings = _settings("method", values, source)
        name, preset, labels = (table.get(key) for key in ("name", "preset", "labels"))
        if (name is None) == (preset is None) or (preset is not None and (settings or labels is not None)):
            raise ConfigError(f"{source}: expected a name with settings, or a preset and nothing else")
        if preset is not None:
            if preset not in PRESETS:
                raise ConfigError(f"{source}: no preset {preset!r} (there are: {', '.join(PRESETS)})")
            found |= {key: Method(name=key, settings=value) for key, value in PRESETS[preset].items()}
            continue
        assert name is not None
        names.append(name)
        if labels is not None:
            own = given(recipe=None, assignments=(), options={source: {"data": {"labels": labels}}})
            settings = merged(settings, own)
        found[name] = Method(name=name, settings=settings)  # also in place of one of a preset
    refuse_doubles(names, "method", str(file))
    refuse_doubles(list(found), "method", str(file))
    if not found:
        raise ConfigError(f"{file}: no method; write [[method]] with a name and settings, or preset = 'ablation'")
    yield from found.values()


def _tests(content: Mapping[str, Any], file: Path) -> Iterator[TestSet]:
    keys: dict[tuple[str | None, str, str | None], str] = {}
    titles = []
    for values, source in _tables(content, "test", file):
        test = _built(TestSet, "test", values, source)
        if test.key in keys:
            raise ConfigError(
                f"{source}: has the pack's name, split and labels' name of {keys[test.key]!r}, by which a run's "
                "metrics.json tells evaluations apart; rename one of the files"
            )
        keys[test.key] = test.title
        titles.append(test.title)
        yield test
    refuse_doubles(titles, "test set", str(file))


def _settings(table: str, values: object, source: str) -> tuple[Mapping[str, Any], Values]:
    """Return a table's own keys, checked, and its recipe and sections of settings."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: expected a table of keys, found {values!r}")
    sections = {key: dict(value) for key, value in values.items() if isinstance(value, Mapping)}
    own = check(PlanFile, {table: {key: value for key, value in values.items() if key not in sections}}, source=source)
    recipe = own[table].get("recipe")
    return own[table], given(recipe=recipe, assignments=(), options={source: sections} if sections else {})


def _built(kind: type[T], table: str, values: object, source: str) -> T:
    """Return one table as its dataclass."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: expected a table of keys, found {values!r}")
    checked = check(PlanFile, {table: dict(values)}, source=source)[table]
    try:
        return kind(**checked)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def _refuse_seeds(plan: Plan) -> None:
    """Refuse seeds that a table sets beside ``compare.seeds``."""
    for name, settings in _layers(plan):
        if "seed" in settings.get("run", {}):
            raise ConfigError(f"{plan.file}: {name} sets run.seed; expected compare.seeds alone")


def _layers(plan: Plan) -> Iterator[tuple[str, Values]]:
    yield "[base]", plan.base
    yield from ((f"[[data]] {data.name!r}", data.settings) for data in plan.data)
    yield from ((f"[[method]] {method.name!r}", method.settings) for method in plan.methods)
