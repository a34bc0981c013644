"""`dali`: encoded images of tar shards, read by threads and decoded by NVIDIA DALI, on a GPU where there is one.

::

    order step -> reading threads -> DALI, some batches at a time -> loader thread -> batch
                  bytes of shards    decodes                        torch's memory

DALI is handed the bytes in our order (`external_source`), so it neither shuffles nor pads nor repeats.
"""

import atexit
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import closing, nullcontext
from itertools import count
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from pipeline.batch import Batch
from pipeline.loaders.contract import Batches, Feed, LoadedStep
from pipeline.loaders.corrupt import SKIPPED, CorruptSamples
from pipeline.loaders.dali_pipeline import DecodeError, DecodingPipeline, Files
from pipeline.loaders.device_stream import DeviceStream
from pipeline.loaders.driven import DrivenLoader
from pipeline.loaders.encoded import EncodedReader, File
from pipeline.loaders.prefetch import Prefetcher
from pipeline.order import OrderStep

_READING_THREADS = 2


class _Fetched(NamedTuple):
    """A step whose files were read."""

    step: OrderStep
    sample_index_B: npt.NDArray[np.int64]
    row_G: npt.NDArray[np.int64]
    """Rows of the batch that have a file to decode; the others stay black."""
    files: list[File]


class DaliLoader(DrivenLoader):
    """Hands steps to a pipeline that lives as long as the loader, and takes their images out in the same order."""

    def __init__(self, feed: Feed) -> None:
        """Open the shards and build the pipeline.

        Raises:
            PackError: an index file is missing or damaged, or a shard cannot be opened.
        """
        super().__init__(feed)
        self._corrupt = CorruptSamples(feed.pack, feed.config.on_corrupt)
        self._device_stream = DeviceStream(feed.device) if feed.device.type == "cuda" else None
        self._encoded = EncodedReader(feed.pack, verify=feed.config.verify)
        self._pipeline = self._new_pipeline()
        self._decoded: Prefetcher[int, LoadedStep | None] | None = None
        self._fetched: Prefetcher[OrderStep, _Fetched] | None = None
        # A thread that is inside DALI when the interpreter goes takes the process down with it (SIGABRT).
        close = weakref.WeakMethod(self.close)
        self._at_exit = atexit.register(lambda: (found := close()) and found())

    @property
    def skipped_samples(self) -> tuple[int, ...]:
        """sample_index of the samples that could not be decoded and were skipped so far, ascending."""
        return self._corrupt.sample_indices

    def close(self) -> None:
        """End the pass that is open, DALI's threads, and close the shards."""
        if self._closed:
            return
        super().close()
        for ahead in (self._decoded, self._fetched):
            if ahead is not None:
                ahead.close()
        self._pipeline.close()
        self._encoded.close()
        atexit.unregister(self._at_exit)

    def _read(self, steps: Iterator[OrderStep]) -> Batches:
        config = self.feed.config
        self._fetched = Prefetcher(
            self._fetch, steps, num_threads=_READING_THREADS, depth=config.prefetch + 1, name="dali-loader-reader"
        )
        loaded_steps = self._load(self._fetched)

        def next_loaded(_: int) -> LoadedStep | None:
            with nullcontext() if self._device_stream is None else self._device_stream.current():
                return next(loaded_steps, None)

        # The thread also waits for copies on a GPU, which the consumer must not.
        self._decoded = Prefetcher(next_loaded, count(), num_threads=1, depth=2, name="dali-loader")
        with closing(self._fetched), closing(loaded_steps), closing(self._decoded):
            while (loaded := next(self._decoded)) is not None:
                if self._device_stream is not None:
                    self._device_stream.hand_over(loaded.batch)
                yield loaded
                del loaded

    def _fetch(self, step: OrderStep) -> _Fetched:
        """Read the files of a step; runs in several threads."""
        index_B = self.indices_of(step)
        files, damaged = self._encoded.read(index_B)
        for row, problem in damaged.items():
            self._corrupt.add(int(index_B[row]), problem)
        for row, sample_index in enumerate(index_B.tolist()):
            if sample_index in self._corrupt:
                index_B[row] = SKIPPED
                files.pop(row, None)
        return _Fetched(step, index_B, np.array(list(files), np.int64), list(files.values()))

    def _load(self, fetched: Iterator[_Fetched]) -> Batches:
        """Yield each step's batch; a damaged image ends the pipeline, and another one goes on after it."""
        waiting: deque[_Fetched] = deque()
        """Steps that the pipeline has taken, and steps without files among them."""
        again: deque[_Fetched] = deque()
        """Steps that were in a pipeline that ended."""

        def batches() -> Iterator[Files]:
            while (step := again.popleft() if again else next(fetched, None)) is not None:
                waiting.append(step)
                if step.files:
                    yield Files(step.files, step.sample_index_B[step.row_G])

        def black_steps() -> Iterator[LoadedStep]:
            while waiting and not waiting[0].files:
                step = waiting.popleft()
                yield self._loaded(step, None)

        while True:
            try:
                with closing(self._pipeline.run(batches())) as run:
                    for images_G1HW, sample_index_G in run:
                        yield from black_steps()
                        step = waiting[0]
                        assert np.array_equal(sample_index_G, step.sample_index_B[step.row_G]), "DALI left the order"
                        loaded = self._loaded(step, images_G1HW)
                        del images_G1HW
                        waiting.popleft()
                        yield loaded
                        del loaded
                yield from black_steps()
                return
            except DecodeError as error:
                self._pipeline.close()
                self._pipeline = self._new_pipeline()
                yield from self._load_singly(waiting, error)
                again.extend(waiting)
                waiting.clear()

    def _load_singly(self, waiting: deque[_Fetched], error: DecodeError) -> Iterator[LoadedStep]:
        """Yield the batches of `waiting`, decoded image by image, up to the first one with a damaged image."""
        found = False
        while waiting and not found:
            step = waiting.popleft()
            spec, index_B = self.feed.pack.spec, step.sample_index_B
            images_G1HW = torch.zeros((len(step.files), 1, spec.height_px, spec.width_px), dtype=torch.uint8)
            damaged = self._decode_singly(step, images_G1HW)
            for row, reason in damaged.items():
                self._corrupt.add(int(index_B[row]), f"cannot be decoded ({reason})")
                index_B[row] = SKIPPED
            found = bool(damaged)
            yield self._loaded(step, images_G1HW.to(self.feed.device))
        if not found:
            raise RuntimeError("DALI failed, though it decodes every image of the batches that it had") from error

    def _decode_singly(self, step: _Fetched, images_G1HW: torch.Tensor) -> dict[int, DecodeError]:
        """Decode a step's files one by one into `images_G1HW`, on the host; return row -> what is wrong with it."""
        damaged: dict[int, DecodeError] = {}
        pipeline: DecodingPipeline | None = None
        for place, (row, file) in enumerate(zip(step.row_G.tolist(), step.files, strict=True)):
            pipeline = pipeline or self._new_pipeline(alone=True)
            try:
                with closing(pipeline.run(iter([Files([file], step.sample_index_B[row : row + 1])]))) as run:
                    images_G1HW[place] = next(run).images_G1HW[0].cpu()
            except DecodeError as error:
                damaged[row] = error
                pipeline.close()
                pipeline = None
        if pipeline is not None:
            pipeline.close()
        return damaged

    def _loaded(self, step: _Fetched, images_G1HW: torch.Tensor | None) -> LoadedStep:
        """Return a step's batch on the loader's device, rows without an image black."""
        num_rows, spec = len(step.sample_index_B), self.feed.pack.spec
        if images_G1HW is None or len(images_G1HW) < num_rows:
            images_B1HW = torch.zeros(
                (num_rows, 1, spec.height_px, spec.width_px), dtype=torch.uint8, device=self.feed.device
            )
            if images_G1HW is not None:
                images_B1HW[torch.from_numpy(step.row_G).to(self.feed.device)] = images_G1HW
        else:
            images_B1HW = images_G1HW
        batch = Batch(images_B1HW, torch.from_numpy(step.sample_index_B))
        if self._device_stream is not None:
            batch = self._device_stream.send(batch)
        return LoadedStep(batch, step.step.consumed, step.step.num_global)

    def _new_pipeline(self, *, alone: bool = False) -> DecodingPipeline:
        config = self.feed.config
        return DecodingPipeline(
            self.feed.pack.spec,
            max_batch_size=1 if alone else max(config.batch_size, 2),  # a batch_size of 1 may end with a step of two
            num_threads=1 if alone else config.num_threads,
            depth=1 if alone else config.prefetch,
            device=self.feed.device,
        )
