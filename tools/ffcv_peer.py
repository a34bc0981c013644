"""FFCV's own DatasetWriter over image files: what it takes to make a beton of them, as its documentation shows it.

It runs in a fork of this process that is ended with all its workers when it takes too long: a worker that dies makes it
wait for ever.
"""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

Kind = Literal["rgb", "rgb-raw", "gray"]
TIMEOUT_S = 300


class RgbFiles:
    """Dataset of (RGB image, index), at the files' size: FFCV's RGB field resizes."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Return an image and its index."""
        with Image.open(self.paths[index]) as image:
            return image.convert("RGB"), index


class GrayFiles(RgbFiles):
    """Dataset of (uint8 [S, S], index): FFCV stores the array as it comes, so it is resized here, by Pillow."""

    def __init__(self, paths: Sequence[Path], size_px: int) -> None:
        super().__init__(paths)
        self.size_px = size_px

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:  # type: ignore[override]
        """Return an image and its index."""
        with Image.open(self.paths[index]) as image:
            small = image.convert("L").resize((self.size_px, self.size_px), Image.Resampling.BILINEAR)
        return np.asarray(small), index


def write(paths: Sequence[Path], out: Path, *, kind: Kind, size_px: int, num_workers: int) -> None:
    """Write a beton of image files.

    Args:
        paths: the files.
        out: the beton.
        kind: `rgb`, FFCV's image field, JPEG of quality 95, which resizes with OpenCV; `rgb-raw`, the same with its
            pixels as they are; or `gray`, the array that `cxr-prep pack --format beton` writes.
        size_px: side of the images in the beton.
        num_workers: FFCV's processes.

    Raises:
        TimeoutError: it did not end within `TIMEOUT_S`.
        RuntimeError: it failed.
    """
    import ffcv.writer  # noqa: F401 - seconds, and no part of what is measured

    process = multiprocessing.get_context("fork").Process(target=_write, args=(paths, out, kind, size_px, num_workers))
    process.start()
    process.join(TIMEOUT_S)
    assert process.pid is not None
    if process.is_alive():
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        raise TimeoutError(f"FFCV's writer did not end within {TIMEOUT_S} s")
    if process.exitcode:
        raise RuntimeError(f"FFCV's writer ended with exit code {process.exitcode}")


def _write(paths: Sequence[Path], out: Path, kind: Kind, size_px: int, num_workers: int) -> None:
    """Do it, as the leader of a process group of its own and without a progress bar."""
    os.setpgid(0, 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    from ffcv.fields import IntField, NDArrayField, RGBImageField
    from ffcv.writer import DatasetWriter

    if kind != "gray":
        mode = "raw" if kind == "rgb-raw" else "jpg"
        image = RGBImageField(write_mode=mode, max_resolution=size_px, jpeg_quality=95)
        dataset: RgbFiles = RgbFiles(paths)
    else:
        image = NDArrayField(np.dtype(np.uint8), (size_px, size_px))
        dataset = GrayFiles(paths, size_px)
    fields = {"image": image, "sample_index": IntField()}
    DatasetWriter(str(out), fields, num_workers=num_workers).from_indexed_dataset(dataset)
