"""`cxr-prep` in the process of a test."""

import sys

import pytest

from pipeline.cli import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run `cxr-prep` in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["cxr-prep", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    code = end.value.code
    assert isinstance(code, int)
    return code
