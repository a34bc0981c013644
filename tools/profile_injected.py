"""Bottlenecks that a profile is to find: each makes one thing slow, either by computing or by waiting.

What computes keeps the cores as busy as a slower network or a slower decoder would. What waits lets them idle, and what
comes after a pause may be slower than it is in a run without it.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unittest.mock import patch

import torch

from pipeline.augment import AugmentConfig
from pipeline.loaders import reference
from trainer import methods, step
from trainer.profile import stages
from trainer.sections import Values
from trainer.step import TrainStep

NUM_READERS = 2

How = Literal["computes", "waits"]


class Slowed(NamedTuple):
    """What is slow."""

    places: tuple[tuple[Any, str], ...]
    """Objects and the names of their attributes."""

    calls_a_step: float
    """How often it is called while one step's images are made, divided by the threads that call it."""

    how: How
    """What it does before it works."""


class Case(NamedTuple):
    """A bottleneck, and the run without it."""

    cause: str
    """What the verdict must be."""

    slowed: Slowed
    settings: Values
    """Of the run that is profiled."""

    repaired: Values
    """Of the run that the prediction is compared with."""

    world_size: int = 1

    @property
    def name(self) -> str:
        """Cause and kind, in one word."""
        return f"{self.cause}-{self.slowed.how}"


def cases(raw: Path, tar: Path, options: argparse.Namespace) -> Iterator[Case]:
    """Yield the cases; `options` has `batch` and `threads`."""
    batch_size = options.batch

    def settings(pack: Path, loader: str, **sections: dict[str, Any]) -> Values:
        return {
            "data": {"pack": str(pack)},
            "loader": {"backend": loader, "batch_size": batch_size, "num_threads": NUM_READERS},
            "model": {"name": "small"},
            "run": {"device": "cpu", "num_threads": options.threads},
            **sections,
        }

    plain, dali = settings(raw, "raw"), settings(tar, "dali")
    read = ((os, "pread"),)
    yield Case("DISK", Slowed(read, batch_size / NUM_READERS, "waits"), dali, dali)
    decoded = ((reference, "decoded"),)
    yield Case("DECODE", Slowed(decoded, batch_size, "computes"), settings(tar, "reference"), plain)
    drawn = ((step, "augment_params"), (stages, "augment_params"))
    none = settings(raw, "raw", augment=asdict(AugmentConfig.none()))
    computed = ((methods, "nvum_step"),)
    hows: tuple[How, ...] = ("computes", "waits")
    for how in hows:
        yield Case("AUGMENT", Slowed(drawn, 1, how), plain, none)
        yield Case("COMPUTE", Slowed(computed, 1, how), plain, plain)
    one_thread = settings(raw, "raw", run={"device": "cpu", "num_threads": 1})
    of_a_rank = ((TrainStep, "_student_logits"),)
    yield Case("STRAGGLER", Slowed(of_a_rank, 1, "computes"), one_thread, one_thread, world_size=2)


@contextmanager
def slow(slowed: Slowed, seconds: float) -> Iterator[None]:
    """Let what is slowed take that much longer, within the block."""
    delay = {"computes": compute, "waits": time.sleep}[slowed.how]

    def after_delay(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            delay(seconds)
            return work(*arguments, **options)

        return call

    with ExitStack() as stack:
        if seconds:
            for owner, name in slowed.places:
                stack.enter_context(patch.object(owner, name, after_delay(getattr(owner, name))))
        yield


@torch.no_grad()
def compute(seconds: float) -> None:
    """Multiply matrices for that long, with all threads of torch."""
    until_s = time.perf_counter() + seconds
    matrix_KK = torch.ones((192, 192))
    while time.perf_counter() < until_s:
        torch.mm(matrix_KK, matrix_KK)
