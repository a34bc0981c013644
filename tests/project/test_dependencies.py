"""pyproject.toml declares what the code imports, no more and no less, and constraints.txt pins all of it."""

import importlib.metadata
import itertools
import re
import sys
import sysconfig
import tomllib

from tests.project.source_tree import LAYERS, ROOT, imported_names, source_files

SHIPPED = ("manifests", "pipeline", "trainer")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

IMPORT_NAMES = {"opencv-python": "cv2", "pillow": "PIL", "python-gdcm": "gdcm", "scikit-learn": "sklearn"}
"""Import names of distributions whose two names differ."""

CUDA_LIBRARIES = ("nvidia-", "cuda-")
"""What CUDA builds of torch pin themselves."""


def test_every_runtime_dependency_is_imported_and_every_import_is_declared() -> None:
    declared = {import_name(requirement) for requirement in PROJECT["dependencies"]}
    optional = {
        import_name(requirement)
        for extra, requirements in PROJECT["optional-dependencies"].items()
        if extra != "dev"
        for requirement in requirements
    } | {"triton"}  # comes with CUDA builds of torch
    imported = third_party(*SHIPPED)
    assert declared <= imported <= declared | optional


def test_tools_and_tests_import_only_what_the_development_extra_installs() -> None:
    declared = {import_name(requirement) for requirement in every_requirement()}
    assert third_party(*LAYERS, "tests") <= declared


def test_every_requirement_is_pinned_once_and_exactly() -> None:
    lines = pin_lines()
    assert not [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
    names = [canonical(line) for line in lines]
    assert sorted(names) == sorted(set(names))
    assert {canonical(requirement) for requirement in every_requirement()} - {"cxr-nvum"} <= set(names)


def test_every_installed_package_has_its_pinned_version() -> None:
    pins = {canonical(line): line.partition("==")[2] for line in pin_lines()}
    installed = {
        canonical(distribution.name): distribution.version.partition("+")[0]
        for distribution in importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])
    }
    del installed["cxr-nvum"]
    astray = {
        f"{name}=={version}"
        for name, version in installed.items()
        if pins.get(name) != version and not (name not in pins and name.startswith(CUDA_LIBRARIES))
    }
    assert not astray, "`make clean setup` installs what constraints.txt pins"


def every_requirement() -> list[str]:
    """Return what pyproject.toml requires, every extra included."""
    return [*PROJECT["dependencies"], *itertools.chain(*PROJECT["optional-dependencies"].values())]


def pin_lines() -> list[str]:
    """Return the lines of constraints.txt that pin something."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def third_party(*packages: str) -> set[str]:
    """Return the top-level names that the packages import from elsewhere than Python and this project."""
    names = {name.partition(".")[0] for path in source_files(*packages) for name in imported_names(path)}
    return names - sys.stdlib_module_names - {*LAYERS, "tests"}


def import_name(requirement: str) -> str:
    """Return the top-level name that a requirement is imported by."""
    name = canonical(requirement)
    if name.startswith("nvidia-dali"):
        return "nvidia"
    return IMPORT_NAMES.get(name, name.replace("-", "_"))


def canonical(requirement: str) -> str:
    """Return the normalised name of the distribution that a requirement or a pin speaks of."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s=<>;\[]", requirement, maxsplit=1)[0]).lower()
