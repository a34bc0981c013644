"""The part that all backends share: `pipeline.order` drives, the backend only reads what it is told to."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from pipeline.loaders.contract import Batches, Feed
from pipeline.loaders.verification import ShardVerification
from pipeline.order import OrderStep, epoch_order, evaluation_order, num_steps

STORED_FORMATS = ("raw", "beton")
"""Formats that store pixels as they are, whose shards are compared whole. In a tar each sample is, when it is read: one
that is damaged can be skipped, and the others are still wanted."""


class DrivenLoader(ABC):
    """A `Loader` whose backend turns a stream of order steps into batches.

    Where it was asked to, the checksums of the pack are compared beside its first pass, which does not end before they
    are: nothing that comes after an epoch rests on pixels that nobody looked at.
    """

    verifies = True
    """Whether the backend hands out the pack's pixels."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        verify = self.verifies and feed.config.verify and feed.pack.format in STORED_FORMATS
        self._verification = ShardVerification(feed.pack) if verify else None
        self._in_flight = False
        self._closed = False

    @abstractmethod
    def _read(self, steps: Iterator[OrderStep]) -> Batches:
        """Yield the batch of each step, in order; closing the generator must end whatever runs in the background."""

    def train_batches(self, epoch: int, start: int = 0) -> Batches:
        """Yield this rank's steps of a shuffled epoch from the cursor `start` (samples consumed over all ranks).

        Raises:
            ConfigError: the cursor lies outside the selection.
            PackError: a shard is damaged.
            RuntimeError: another pass of this loader is still open, or the loader is closed.
        """
        feed = self.feed
        steps = epoch_order(
            len(feed.sample_index_n),
            epoch=epoch,
            seed=feed.seed,
            batch_size=feed.config.batch_size,
            rank=feed.rank,
            world_size=feed.world_size,
            start=start,
        )
        return self._pass(steps)

    def ordered_batches(self) -> Batches:
        """Yield this rank's share of the selection once, in order, for evaluation.

        Raises:
            PackError: a shard is damaged.
            RuntimeError: another pass of this loader is still open, or the loader is closed.
        """
        feed = self.feed
        steps = evaluation_order(
            len(feed.sample_index_n), batch_size=feed.config.batch_size, rank=feed.rank, world_size=feed.world_size
        )
        return self._pass(steps)

    def num_steps(self, start: int = 0) -> int:
        """Return how many steps `train_batches` has from the cursor `start`; the same for every rank."""
        feed = self.feed
        return num_steps(
            len(feed.sample_index_n), batch_size=feed.config.batch_size, world_size=feed.world_size, start=start
        )

    @property
    def skipped_samples(self) -> tuple[int, ...]:
        """sample_index of the samples that could not be decoded and were skipped so far; none, where nothing is."""
        return ()

    def close(self) -> None:
        """Refuse further passes; backends also give back what they hold."""
        self._closed = True
        if self._verification is not None:
            self._verification.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def indices_of(self, step: OrderStep) -> npt.NDArray[np.int64]:
        """Return the sample_index of a step's positions: int64 [B], a fresh array."""
        return self.feed.sample_index_n[step.positions_B]

    def _pass(self, steps: Iterator[OrderStep]) -> Batches:
        if self._in_flight:
            raise RuntimeError("a pass of this loader is still open: finish it or close its iterator first")
        self._in_flight = True
        verification = self._verification
        try:
            with closing(self._read(steps)) as batches:
                if verification is not None and not self._closed:
                    verification.start()
                while not self._closed and (loaded := next(batches, None)) is not None:
                    if verification is not None:
                        verification.raise_found()
                    yield loaded
                if self._closed:
                    raise RuntimeError("the loader is closed")
            if verification is not None:
                verification.finish()
        finally:
            self._in_flight = False
