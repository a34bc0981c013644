"""Where a profile was made: hardware, driver, versions."""

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

from pipeline.cores import cpu_model, usable_cores

PACKAGES = ("torch", "numpy", "pyarrow", "nvidia-dali-cuda120", "nvidia-dali-cuda130", "ffcv")

_DRIVER = Path("/sys/module/nvidia/version")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What two profiles that differ may owe their difference to."""

    date: str
    """UTC."""

    cpu: str
    """Its name."""

    num_cores: int
    """That this process may use."""

    memory_bytes: int
    """Of the machine."""

    gpu: str
    """Its name; empty without one."""

    gpu_memory_bytes: int
    """0 without one."""

    driver: str
    """Of the GPU; empty without one."""

    cuda: str
    """Version that torch was built for; empty for none."""

    python: str
    """Version."""

    packages: dict[str, str]
    """Name -> version, those that are installed."""

    load: float
    """Processes that wanted a core over the last minute before: others on this machine disturb what is measured."""


def this_environment(device: torch.device) -> Environment:
    """Return the environment of a run on `device`."""
    gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return Environment(
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        cpu=cpu_model(),
        num_cores=usable_cores(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpu="" if gpu is None else gpu.name,
        gpu_memory_bytes=0 if gpu is None else gpu.total_memory,
        driver="" if gpu is None else _driver_version(),
        cuda="" if gpu is None else torch.version.cuda or "",
        python=platform.python_version(),
        packages=_versions(),
        load=round(os.getloadavg()[0], 2),
    )


def _driver_version() -> str:
    try:
        return _DRIVER.read_text().strip()
    except OSError:
        return "unknown"


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
