"""What every test folder shares: the real releases, hypothesis without a clock, and no silent skips in CI."""

import os
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

IN_CI = os.environ.get("CI") == "true"

# Without a GPU kernels run in Triton's interpreter, which wants to know before anybody imports triton.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A slow machine is no failure. In CI hypothesis draws the same examples each time: a red run can be run again.
hypothesis.settings.register_profile("project", deadline=None, derandomize=IN_CI)
hypothesis.settings.load_profile("project")


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one in CI, where a skip means that something was not installed.

    Left alone: what needs a GPU, and what needs the real releases where `.ci/run` found none.
    """
    report = yield
    excused = "gpu" in item.keywords or (
        "real_data" in getattr(item, "fixturenames", ()) and not os.environ.get("CXR_REAL_DATA")
    )
    if IN_CI and report.skipped and not excused:
        fail_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a skipped file into a failed one in CI."""
    report = yield
    if IN_CI and report.skipped:
        fail_skipped(report)
    return report


def fail_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a report of a skip one of a failure, with the skip's reason."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid} is not to be skipped in CI. {reason}"
