"""The backends that continuous integration is meant to have are there and really run."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

BACKENDS = Path(__file__).parent / "backends"


@pytest.mark.parametrize(
    ("module", "program"),
    [
        ("nvidia.dali", "dali_decodes_gray.py"),
        ("ffcv", "ffcv_reads_what_it_wrote.py"),
        ("triton", "triton_interprets_a_kernel.py"),
        ("torch.distributed", "gloo_sums_over_two_processes.py"),
    ],
)
def test_backend_is_installed_and_runs(module: str, program: str) -> None:
    if not (os.environ.get("CI") or is_installed(module)):
        pytest.skip(f"{module} is not installed: `make setup` installs it")
    done = subprocess.run(
        [sys.executable, BACKENDS / program],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,  # a hanging backend must be a failure, not a stuck run
    )
    assert done.returncode == 0, done.stdout + done.stderr


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False
