"""Fixtures that every test folder shares."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real releases; skips where CXR_REAL_DATA is unset, fails where it is set and wrong."""
    value = os.environ.get("CXR_REAL_DATA")
    if not value:
        pytest.skip("CXR_REAL_DATA is not set: tests on the real releases need it")
    folder = Path(value)
    if not (folder / "nih").is_dir():
        pytest.fail(f"CXR_REAL_DATA={value}: there is no folder nih/ in it")
    return folder
