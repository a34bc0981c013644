"""Steps as they run: a loader, a measured step, no files, and all ranks for the same number of steps."""

import time
from collections.abc import Generator
from contextlib import closing
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from pipeline.loaders import LoadedStep, Loader
from pipeline.order import epoch_order
from trainer.parts import Parts
from trainer.profile.measurements import StepTimes
from trainer.profile.recorder import DeviceClock, HostClock, MeasuredStep, Recorder

MOST_STEPS = 200
"""That are measured; more would say nothing new."""

NUM_WARM_UP = 3
"""Steps before: the first finds the last gradient, the others show how long a step takes."""


class MeasuredSteps(NamedTuple):
    """What was seen of some steps."""

    steps: tuple[StepTimes, ...]
    """Those that are measured."""

    first_batch_s: float
    """What the very first batch was waited for."""


class _Fed(NamedTuple):
    """A step's batch, and what training gives a step beside it."""

    loaded: LoadedStep
    sample_index_B: npt.NDArray[np.int64]
    is_first: bool


def run_steps(step: MeasuredStep, loader: Loader, parts: Parts, *, seconds: float) -> MeasuredSteps:
    """Return the steps that fit into `seconds`, at least two after those that warm up; every rank does as many.

    Args:
        step: what is measured; its weights move, nothing is written.
        loader: where batches come from: epoch after epoch, where they are short.
        parts: order, rows and ranks of the run.
        seconds: warm-up included, as long as a step is not longer than that.
    """
    device = step.device
    clock = DeviceClock(device) if device.type == "cuda" else HostClock()
    recorder = step.recorder = Recorder(clock)
    with closing(_batches(loader, parts)) as batches:
        begun_s = time.perf_counter()

        def do_step() -> None:
            with recorder.part("data wait"):
                fed = next(batches)
            if fed.is_first:  # the schedule has no place for more epochs than the run has
                step.state.cursor.epoch = step.state.cursor.consumed = 0
            step(fed.loaded, fed.sample_index_B)
            recorder.end_step(num_images=len(fed.sample_index_B), is_first=fed.is_first)

        with recorder.part("data wait"):
            first = next(batches)
        first_batch_s = time.perf_counter() - begun_s
        step(first.loaded, first.sample_index_B)
        step.find_last_gradient(do_step)
        _wait(device)
        warm_s = time.perf_counter()
        for _ in range(NUM_WARM_UP - 2):
            do_step()
        _wait(device)
        now_s = time.perf_counter()
        step_s = (now_s - warm_s) / (NUM_WARM_UP - 2)
        left_s = seconds - (now_s - begun_s)
        # A number of steps that all ranks agree on before: to ask after each would keep them in step.
        (fewest,) = (-number for number in parts.ranks.largest(-int(left_s / max(step_s, 1e-6))))
        recorder.forget()
        recorder.switch("other")
        for _ in range(min(max(fewest, 2), MOST_STEPS)):
            do_step()
        return MeasuredSteps(recorder.read(), first_batch_s)


def _batches(loader: Loader, parts: Parts) -> Generator[_Fed]:
    """Yield the steps of epoch after epoch."""
    config, ranks, rows_n = parts.config, parts.ranks, parts.data.train.sample_index_n
    epoch = 0
    while True:
        order = epoch_order(
            len(rows_n),
            epoch=epoch,
            seed=config.run.seed,
            batch_size=config.loader.batch_size,
            rank=ranks.rank,
            world_size=ranks.world_size,
        )
        with closing(loader.train_batches(epoch)) as batches:
            for number, (ordered, loaded) in enumerate(zip(order, batches, strict=True)):
                yield _Fed(loaded, rows_n[ordered.positions_B], number == 0)
        epoch += 1


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
