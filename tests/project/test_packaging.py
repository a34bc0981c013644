"""The wheel holds the three packages and nothing else, and works from any folder without the source beside it."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.project.source_tree import ROOT, source_files

SHIPPED = ("manifests", "pipeline", "trainer")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools leaves a folder build/ beside what it builds from."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in (*SHIPPED, "tools", "tests"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel, which sees this environment's packages but not the source."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    theirs = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # A plain path in a .pth file is searched last, and the .pth files in it, our editable install's, are not read.
    (Path(theirs) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder


def test_wheel_holds_the_packages_whole_and_nothing_else(wheel: Path) -> None:
    files = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    assert {path.parts[0] for path in files if not path.parts[0].endswith(".dist-info")} == {*SHIPPED}
    assert {path for path in files if path.suffix == ".py"} == {*source_files(*SHIPPED)}
    recipes = {path.relative_to(ROOT) for path in ROOT.glob("trainer/recipes/*.toml")}
    assert recipes
    assert recipes <= files
    assert {Path(package, "py.typed") for package in SHIPPED} <= files


@pytest.mark.parametrize("command", ["cxr-prep", "cxr-train"])
def test_commands_run_from_another_folder(installed: Path, command: str, tmp_path: Path) -> None:
    shown = run(installed / "bin" / command, "--help", folder=tmp_path)
    assert command in shown


@pytest.mark.parametrize("package", SHIPPED)
def test_installed_package_is_the_one_imported(installed: Path, package: str, tmp_path: Path) -> None:
    file = run(installed / "bin" / "python", "-c", f"import {package}; print({package}.__file__)", folder=tmp_path)
    assert Path(file.strip()).is_relative_to(installed)


def test_compiled_loops_are_installed_too(installed: Path, tmp_path: Path) -> None:
    for module in ("pipeline.packing.kernels", "pipeline.resample_cpu", "trainer.nvum_native"):
        code = f"import {module} as compiled; print(compiled.library is not None)"
        assert run(installed / "bin" / "python", "-c", code, folder=tmp_path).strip() == "True", module


@pytest.mark.parametrize("package", SHIPPED)
def test_import_name_is_ours_alone(package: str) -> None:
    assert {*importlib.metadata.packages_distributions()[package]} == {"cxr-nvum"}


def run(*command: str | Path, folder: Path | None = None) -> str:
    """Run a command with no source on its path and return its standard output; fail with all that it said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
