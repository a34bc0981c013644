"""A test that is skipped in continuous integration fails the run: nothing that was meant to be there is missed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.source_tree import ROOT

SUITE = """
import pytest

def test_lacks_a_package():
    pytest.importorskip("surely_not_installed")

@pytest.mark.gpu
def test_needs_a_gpu():
    pytest.skip("no GPU")

def test_needs_the_real_releases(real_data):
    pass
"""


@pytest.mark.parametrize(
    ("environment", "counted"),
    [
        ({}, "3 skipped"),
        ({"CI": "true"}, "1 failed, 2 skipped"),
        ({"CI": "true", "CXR_REAL_DATA": "/nowhere"}, "1 failed, 1 skipped, 1 error"),
    ],
)
def test_only_excused_skips_pass_in_ci(environment: dict[str, str], counted: str, tmp_path: Path) -> None:
    for name in ("tests/conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_suite.py").write_text(SUITE, encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if name not in ("CI", "CXR_REAL_DATA")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert f" {counted} in " in done.stdout, done.stdout + done.stderr
