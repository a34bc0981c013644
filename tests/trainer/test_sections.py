"""Values from outside become sections only in their field's type; what does not fit is named."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from manifests.errors import ConfigError
from trainer.sections import as_values, build, check


@dataclass(frozen=True, kw_only=True)
class Fruit:
    name: str = "apple"
    number: int = 1
    weight_g: float = 100.0
    ripe: bool = True
    colour: Literal["red", "green"] = "red"
    size: tuple[float, float] = (1.0, 2.0)
    days: tuple[int, ...] = ()
    basket: str | None = None


@dataclass(frozen=True, kw_only=True)
class Garden:
    fruit: Fruit = field(default_factory=Fruit)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("number", 3, 3),
        ("weight_g", 3, 3.0),
        ("weight_g", 1e-3, 1e-3),
        ("ripe", False, False),
        ("colour", "green", "green"),
        ("size", [1, 2.5], (1.0, 2.5)),
        ("days", [], ()),
        ("days", [1, 2, 3], (1, 2, 3)),
        ("basket", "none", None),
        ("basket", None, None),
        ("basket", "willow", "willow"),
        ("name", "none", "none"),
    ],
)
def test_a_fitting_value_arrives_in_the_type_of_its_field(key: str, value: object, expected: object) -> None:
    built = getattr(build(Garden, {"fruit": {key: value}}, source="test").fruit, key)
    assert built == expected
    assert type(built) is type(expected)


@pytest.mark.parametrize(
    ("key", "value", "found", "expected"),
    [
        ("number", 1.5, "1.5 (a number)", "a whole number"),
        ("number", True, "True (a truth value)", "a whole number"),
        ("number", "3", "'3' (a string)", "a whole number"),
        ("weight_g", "heavy", "'heavy' (a string)", "a number"),
        ("weight_g", True, "True (a truth value)", "a number"),
        ("ripe", 1, "1 (a whole number)", "true or false"),
        ("name", 7, "7 (a whole number)", "a string"),
        ("colour", "gren", "'gren' (a string)", "one of red, green; did you mean green?"),
        ("size", [1], "[1] (a list)", "a list of 2: a number, a number"),
        ("size", [1, "x"], "[1, 'x'] (a list)", "a list of 2: a number, a number"),
        ("size", 3, "3 (a whole number)", "a list of 2: a number, a number"),
        ("days", ["monday"], "['monday'] (a list)", "a list of which each item is a whole number"),
        ("basket", 3, "3 (a whole number)", "a string or none"),
        ("basket", {}, "{} (a table)", "a string or none"),
    ],
)
def test_another_type_is_refused_with_what_was_found_and_expected(
    key: str, value: object, found: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as error:
        build(Garden, {"fruit": {key: value}}, source="garden.toml")
    assert str(error.value) == f"garden.toml: fruit.{key}: found {found}, expected {expected}"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"friut": {}}, "garden.toml: no section 'friut'; did you mean fruit? (there are: fruit)"),
        ({"fruit": {"nmber": 1}}, "garden.toml: section fruit has no key 'nmber'; did you mean number? (there are: "),
        ({"fruit": {"xyzzy": 1}}, "garden.toml: section fruit has no key 'xyzzy' (there are: name, "),
        ({"fruit": 3}, "garden.toml: fruit is a section of keys, found 3 (a whole number)"),
        ({"fruit": {"sampler": "balanced"}}, "never by resampling"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_one(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(Garden, values, source="garden.toml")
    assert message in str(error.value)


def test_values_come_back_as_they_went() -> None:
    garden = Garden(fruit=Fruit(size=(3.0, 4.0), days=(1, 2), basket="willow"))
    values = as_values(garden)
    assert values["fruit"]["size"] == [3.0, 4.0]
    assert build(Garden, values, source="test") == garden
    assert build(Garden, as_values(Garden()), source="test") == Garden()
