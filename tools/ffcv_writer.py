"""FFCV's own writer, the peer of our betons, in a process group of its own that is ended if it hangs.

Its parent waits for ever for a worker that died. `python -m tools.ffcv_writer ARRAYS OUT PAGE_BYTES` writes one beton
and prints how long the writer took; `write_with_ffcv` calls that.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tools.benchmark import PROJECT

TIMEOUT_S = 300


def write_with_ffcv(arrays: Path, out: Path, *, page_bytes: int, timeout_s: float = TIMEOUT_S) -> float:
    """Let FFCV write a beton; return the seconds that its writer took, without its imports.

    Args:
        arrays: an .npz as `write` takes it.
        out: the beton.
        page_bytes: bytes of a page.
        timeout_s: after so long the process and its workers are ended.

    Raises:
        TimeoutError: it took longer.
        RuntimeError: it failed; with what it said.
    """
    command = [sys.executable, "-m", "tools.ffcv_writer", str(arrays), str(out), str(page_bytes)]
    process = subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said, complaint = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"FFCV's writer did not end within {timeout_s:g} s") from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        raise RuntimeError(f"FFCV's writer failed:\n{complaint}")
    return float(said)


def write(arrays: str, out: str, *, page_bytes: int) -> float:
    """Write a beton with FFCV's DatasetWriter and one worker; return the seconds that took.

    Args:
        arrays: an .npz of `images`, uint8 [N, H, W] (gray arrays) or [N, H, W, 3] (FFCV's RGB images), and of
            `targets`, float32 [N, C], which are left out where C is 0.
        out: the beton; its fields are image, sample_index, targets.
        page_bytes: bytes of a page.
    """
    with np.load(arrays) as stored:
        images, targets_NC = stored["images"], stored["targets"]
    from ffcv.fields import IntField, NDArrayField, RGBImageField
    from ffcv.writer import DatasetWriter

    image_field = NDArrayField(images.dtype, images.shape[1:]) if images.ndim == 3 else RGBImageField()
    fields = {"image": image_field, "sample_index": IntField()}
    if targets_NC.shape[1]:
        fields["targets"] = NDArrayField(targets_NC.dtype, targets_NC.shape[1:])
    samples = [(images[i], i, targets_NC[i])[: len(fields)] for i in range(len(images))]
    begin_s = time.perf_counter()
    DatasetWriter(out, fields, page_size=page_bytes, num_workers=1).from_indexed_dataset(samples)
    return time.perf_counter() - begin_s


if __name__ == "__main__":
    print(write(sys.argv[1], sys.argv[2], page_bytes=int(sys.argv[3])))
