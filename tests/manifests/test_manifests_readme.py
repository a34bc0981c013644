"""The package's README stays true."""

import re
from pathlib import Path

from manifests.datasets import MODULES, dataset
from manifests.findings import FINDINGS
from manifests.left_out import MEANING
from manifests.schema import REQUIRED_COLUMNS

PACKAGE = Path(__file__).parents[2] / "manifests"
README = (PACKAGE / "README.md").read_text(encoding="utf-8")


def table_under(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its two head lines."""
    section = README.split(f"\n## {heading}\n")[1]
    lines = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_file_map_is_what_is_on_disk() -> None:
    mapped = {cells[0].strip("`") for cells in table_under("File map")}
    on_disk = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")} - {"__init__.py"}
    assert mapped == on_disk


def test_the_schema_is_the_one_in_code() -> None:
    described = {
        name.strip("` "): cells[1].removesuffix(", null")
        for cells in table_under("The manifest")
        for name in cells[0].split(",")
    }
    assert described.pop("one a labelled finding") == "Int8"
    assert described == REQUIRED_COLUMNS
    assert not set(described) & set(FINDINGS)


def test_every_rule_that_leaves_out_is_described() -> None:
    assert all(f"| `{rule}` |" in README for rule in MEANING)


def test_the_datasets_are_those_that_there_are() -> None:
    described = {cells[0].strip("`"): cells[1:] for cells in table_under("Datasets")}
    assert list(described) == list(MODULES)
    for name, (title, images, patients, findings, _, command) in described.items():
        found = dataset(name)
        expected = "" if found.num_patients is None else f"{found.num_patients:,}"
        assert (title, images, patients) == (found.title, f"{found.num_images:,}", expected)
        assert int(findings) == len(found.vocabulary.findings)
        assert f"--dataset {name} --root DIR" in command
        preset = command.partition("--preset ")[2].strip("`")
        assert not preset or preset in found.presets
