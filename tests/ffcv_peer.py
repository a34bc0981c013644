"""FFCV's own writer and Loader in a process of their own: a thread of theirs that dies would make a test wait for ever.

`python -m tests.ffcv_peer JOBS` runs the jobs of a JSON file; `run_ffcv` writes that file and ends what takes too long.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tools.ffcv_writer import write

TIMEOUT_S = 240
BATCH_SIZE = 16


def run_ffcv(folder: Path, jobs: list[dict[str, Any]]) -> None:
    """Run jobs in another process: what `write`, `read` and `example` take, by the name of the job."""
    file = folder / "ffcv_jobs.json"
    file.write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "tests.ffcv_peer", str(file)]
    root = Path(__file__).resolve().parent.parent
    process = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert process.returncode == 0, process.stderr


def read(beton: str, out: str, *, os_cache: bool, random: bool) -> None:
    """Read a beton to its end with FFCV's Loader into `out`, an .npz of what each of its fields gave."""
    from ffcv.loader import Loader, OrderOption

    order = OrderOption.SEQUENTIAL
    if random:  # FFCV's page cache wants the order that reads page by page
        order = OrderOption.RANDOM if os_cache else OrderOption.QUASI_RANDOM
    loader = Loader(
        beton, batch_size=BATCH_SIZE, num_workers=1, os_cache=os_cache, order=order, seed=1, drop_last=False
    )
    batches = [tuple(field.numpy().copy() for field in batch) for batch in loader]
    fields = [np.concatenate(field) for field in zip(*batches, strict=True)]
    np.savez(out, **dict(zip(loader.reader.field_names, fields, strict=True)))


def example(code: str, out: str, *, folder: str) -> None:
    """Run an example of the documentation in `folder`; `out` is an .npz of what it hands to `use`, by sample_index."""
    found: dict[str, np.ndarray] = {}

    def use(sample_index: int, image_HW: np.ndarray) -> None:
        assert str(sample_index) not in found
        found[str(sample_index)] = np.array(image_HW)

    os.chdir(folder)
    exec(code, {"use": use})
    np.savez(out, **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    for job in json.loads(Path(sys.argv[1]).read_text()):
        {"read": read, "write": write, "example": example}[job.pop("job")](**job)  # type: ignore[operator]
