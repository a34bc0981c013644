"""Real processes that meet through a file, and what each of them saw of a run."""

import os
import signal
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import nn

from pipeline.loaders import open_loader
from pipeline.prepare import prepare_images
from tests.trainer.tiny_runs import PROCESSES, before_step
from trainer import launch
from trainer.distributed import Ranks, joined_ranks
from trainer.inference import infer
from trainer.loop import TrainingLoop
from trainer.sections import Values
from trainer.step import TrainStep

PATIENCE_S = 120.0


def on_ranks(world_size: int, folder: Path, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(ranks, *arguments)` returns in each of `world_size` processes."""
    folder.mkdir(parents=True)
    processes = [
        PROCESSES.Process(target=_work, args=(Ranks(rank=rank, world_size=world_size), folder, work, arguments))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
    codes = [process.exitcode for process in processes]
    assert codes == [0] * world_size, "a rank failed (its error stands above) or hangs (None)"
    return [torch.load(folder / f"result-{rank}.pt", weights_only=False) for rank in range(world_size)]


def _work(ranks: Ranks, folder: Path, work: Callable[..., Any], arguments: Iterable[Any]) -> None:
    torch.set_num_threads(1)
    with joined_ranks(ranks, init_method=f"file://{folder / 'meet'}") as joined:
        torch.save(work(joined, *arguments), folder / f"result-{ranks.rank}.pt")


class Seen(NamedTuple):
    """What one process saw of a run."""

    finished: bool
    steps: list[list[int]]
    """The sample_index of its share of each step."""
    weights: dict[str, torch.Tensor]
    """Of the student."""
    probs: Any
    """float32 [n, C]: what the evaluated module says of all validation rows, in this process alone."""


class _Kept(TrainingLoop):
    last: "TrainingLoop"

    def run_to_end(self) -> bool:
        _Kept.last = self
        return super().run_to_end()


def plain_net(name: str, num_outputs: int, **options: Any) -> nn.Module:
    """A network without batch statistics, in the place of any other."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, num_outputs)
    )


def run(ranks: Ranks, asked: Values, out: Path, *, stop: tuple[int, int] | None = None, plain: bool = False) -> Seen:
    """Train, or go on where the run is there.

    Args:
        ranks: these processes.
        asked: settings.
        out: the run's folder.
        stop: (rank, step): that rank gets a SIGTERM before its step after so many.
        plain: whether the network is `plain_net`.
    """
    steps: list[list[int]] = []
    call = TrainStep.__call__
    if stop is not None and stop[0] == ranks.rank:
        call = before_step(stop[1], partial(os.kill, os.getpid(), signal.SIGTERM), call)

    def watched(self: TrainStep, loaded: Any, sample_index_B: Any) -> Any:
        assert loaded.batch.sample_index_B.tolist() == sample_index_B.tolist()
        steps.append(sample_index_B.tolist())
        return call(self, loaded, sample_index_B)

    with (
        patch.object(TrainStep, "__call__", watched),
        patch.object(launch, "TrainingLoop", _Kept),
        patch("trainer.state.build_model", plain_net) if plain else nullcontext(),
    ):
        outcome = launch.train_or_resume(asked, out=out, ranks=ranks)
    state = _Kept.last.state
    return Seen(
        finished=outcome.finished,
        steps=steps,
        weights={name: value.clone() for name, value in state.student.state_dict().items()},
        probs=_all_probs(_Kept.last),
    )


def _all_probs(loop: TrainingLoop) -> Any:
    data = loop.data
    if data.valid.num_selected == 0:
        return None
    with open_loader(
        loop.config.loader, pack=data.pack, sample_index_n=data.valid.sample_index_n, seed=0, device="cpu"
    ) as loader:
        prepare = partial(prepare_images, params=None, out_size_px=loop.config.model.input_size_px)
        return infer(loop.state.evaluated, loader, prepare)[1]
