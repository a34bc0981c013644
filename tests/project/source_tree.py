"""What the source says about itself, read without importing any of it."""

import ast
import functools
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("manifests", "pipeline", "trainer", "tools")
"""The packages of the project; each may import itself and those before it."""


def source_files(*packages: str) -> list[Path]:
    """Return the Python files of the packages, relative to the root, sorted."""
    return sorted(path.relative_to(ROOT) for package in packages for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    """Return the dotted name under which a file, relative to the root, is imported."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imported_names(path: Path) -> frozenset[str]:
    """Return every dotted name that a file imports anywhere in it; `from a import b` gives a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def is_within(name: str, package: str) -> bool:
    """Return whether a dotted name is the package or lies in it."""
    return name == package or name.startswith(package + ".")


def tracked_files() -> list[Path]:
    """Return the files that git tracks and that are there, relative to the root; skips outside a git checkout."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip(f"not a git checkout: {listing.stderr.strip()}")
    return sorted(Path(name) for name in listing.stdout.split("\0") if name and (ROOT / name).is_file())
