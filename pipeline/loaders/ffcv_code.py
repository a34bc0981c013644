"""FFCV's compiled reader of gray images, without what its Loader does to the process and to batches.

FFCV 1.0.2 sets torch's number of threads to 1 when it is imported and to its own when a Loader is made; both are undone
here, for results on a CPU depend on it. Its Loader compiles the code that reads a batch. Its iterator, which calls that
code, is not used: when its thread dies it waits for ever, its batches lie in buffers that it writes again, it only cuts
batches of one size, and it reads with one thread.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.beton import IMAGE


@contextmanager
def _torch_left_alone() -> Iterator[None]:
    """Keep torch's number of threads, and FFCV's old idioms to themselves."""
    num_threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(num_threads)


with _torch_left_alone():
    from ffcv.fields.decoders import NDArrayDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.memory_managers import OSCacheManager
    from ffcv.reader import Reader

_compiled: dict[tuple[int, str], Callable[..., object]] = {}
"""Dimensions of an image and dtype of the beton's rows -> code, so that the second loader need not compile again."""

_compiling = threading.Lock()


class FFCVReader:
    """Reads batches of a beton by sample_index with FFCV's compiled code, off the GIL, in any number of threads."""

    def __init__(self, path: Path) -> None:
        """Open the file, whose layout was checked before, and compile, which takes a second or two the first time."""
        with _torch_left_alone():
            reader = Reader(str(path))
            manager = OSCacheManager(reader)
            self._rows = reader.metadata
            with manager.schedule_epoch([]) as cache:
                self._storage = cache.state
            self._read = _reading_code(path, reader)

    def read(self, sample_index_B: npt.NDArray[np.int64], images_BHW: npt.NDArray[np.uint8]) -> None:
        """Read images into `images_BHW` (uint8, contiguous)."""
        self._read(sample_index_B, images_BHW, self._rows, self._storage)

    def close(self) -> None:
        """Let go of the file's memory map."""
        self._read = _closed
        self._storage = None


def _closed(*_: object) -> None:
    raise RuntimeError("the reader is closed")


def _reading_code(path: Path, reader: Any) -> Callable[..., object]:
    """Return ``read(sample_index_B, images_BHW, rows, storage)``, compiled for images and rows of these types."""
    key = (len(reader.handlers[IMAGE].shape), str(reader.metadata.dtype))
    with _compiling:
        if key not in _compiled:
            _compiled[key] = _compile(path, reader)
        return _compiled[key]


def _compile(path: Path, reader: Any) -> Callable[..., object]:
    others = dict.fromkeys(name for name in reader.field_names if name != IMAGE)
    loader = Loader(
        str(path),
        batch_size=1,
        num_workers=1,
        os_cache=True,
        order=OrderOption.SEQUENTIAL,
        drop_last=False,
        seed=0,  # without one it draws from numpy's global generator, which is a part of checkpoints
        pipelines={IMAGE: [NDArrayDecoder()], **others},
    )
    (node,) = loader.graph.nodes
    ((stage, _),) = [stage for stage in loader.code[0] if stage[1]]

    def read(sample_index_B: Any, images_BHW: Any, rows: Any, storage: Any) -> object:
        memory = {f"memory_{node.id}": images_BHW, f"shared_memory_{node.id}": None}
        return stage(batch_indices=sample_index_B, metadata=rows, storage_state=storage, **memory)

    return read
