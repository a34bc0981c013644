"""What every loader promises, and what it is opened with."""

from collections.abc import Generator
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from pipeline.batch import Batch
from pipeline.loaders.config import LoaderConfig
from pipeline.pack import Pack


class LoadedStep(NamedTuple):
    """One step of one rank, read."""

    batch: Batch
    """Images and their sample_index, on the asked device; the caller may keep it, it never changes afterwards."""

    consumed: int
    """Samples of the epoch that all ranks together have consumed after this step: the cursor to resume from."""

    num_global: int
    """Samples of this step over all ranks."""


Batches = Generator[LoadedStep, None, None]
"""One pass; closing it in the middle ends whatever runs in the background."""


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What a loader reads, for whom, and in which order: all that a backend is built from."""

    config: LoaderConfig
    """How to read."""

    pack: Pack
    """Where the pixels lie."""

    sample_index_n: npt.NDArray[np.int64]
    """int64 [n], the rows of the pack's manifest that are in the selection; positions of the order point into it."""

    seed: int
    """Seed of the order; the same on every rank."""

    device: torch.device
    """Where batches are handed out."""

    rank: int
    """This process among `world_size`."""

    world_size: int
    """Processes that share an epoch."""


class Loader(Protocol):
    """Batches of a selection: each sample once an epoch, with its index, in the order of `pipeline.order`.

    One pass at a time: a second one that begins before the first is finished or closed is refused.
    """

    def train_batches(self, epoch: int, start: int = 0) -> Batches:
        """Yield this rank's steps of a shuffled epoch from the cursor `start` (samples consumed over all ranks)."""

    def ordered_batches(self) -> Batches:
        """Yield this rank's share of the selection once, in order, for evaluation."""

    def num_steps(self, start: int = 0) -> int:
        """Return how many steps `train_batches` has from the cursor `start`; the same for every rank."""

    @property
    def skipped_samples(self) -> tuple[int, ...]:
        """sample_index of the samples that could not be decoded and were skipped so far, ascending, each once."""

    def close(self) -> None:
        """End background threads and give back files and buffers; closing twice does no harm."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
