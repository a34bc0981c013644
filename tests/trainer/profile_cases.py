"""Measurements as a profile records them, from numbers that a test writes down."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trainer.profile.environment import Environment
from trainer.profile.measurements import (
    Measurements,
    PartName,
    RankMeasurements,
    Span,
    Stage,
    StageName,
    StepTimes,
    Subject,
)

BATCH = 10
NUM_STEPS = 5

PARTS: dict[PartName, float] = {
    "augment": 0.001,
    "forward": 0.02,
    "teacher": 0.015,
    "backward": 0.04,
    "loss + memory": 0.001,
    "optimiser + EMA": 0.003,
}
"""Seconds of a step of 10 images on a GPU: 80 ms, 125 images/s."""

RATES: dict[StageName, float] = {
    "disk": 2000.0,
    "page cache": 20000.0,
    "decode": 1600.0,
    "gather": 40000.0,
    "host to device": 50000.0,
    "normalise": 100000.0,
    "augment": 10000.0,
    "loader": 1500.0,
}
"""Images a second of the other stages: all of them faster than the step."""

SUBJECT = Subject(
    loader="dali", pack_format="tar", pack_size_px=256, input_size_px=224, batch_size=BATCH, loader_threads=2,
    torch_threads=4, model="densenet121", loss="nvum", teacher=True, precision="bf16", device="cuda", world_size=1,
    augmented=True,
)  # fmt: skip

ENVIRONMENT = Environment(
    date="2026-01-01T00:00:00Z", cpu="a CPU", num_cores=4, memory_bytes=16 << 30, gpu="a GPU",
    gpu_memory_bytes=80 << 30, driver="1", cuda="13", python="3.11", packages={"torch": "2"}, load=0.1,
)  # fmt: skip


def steps(
    parts: Mapping[PartName, float],
    *,
    num_steps: int = NUM_STEPS,
    num_images: int = BATCH,
    cores: float = 0.0,
    first: bool = False,
) -> tuple[StepTimes, ...]:
    """Steps that are all the same: their parts one after the other, on `cores` cores; one more `first` of an epoch."""
    made, now_s = [], 0.0
    for number in range(num_steps):
        spans = []
        for part, seconds in parts.items():
            spans.append(Span(part=part, begin_s=now_s, end_s=now_s + seconds, core_s=cores * seconds))
            now_s += seconds
        made.append(StepTimes(num_images=num_images, spans=tuple(spans), is_first=first and number == 0))
    return tuple(made)


def stage(images_per_s: float, *, core_s: float = 0.0, num_bytes: int = 0) -> Stage:
    """A stage that did a thousand images, each in `core_s` seconds of cores."""
    return Stage(num_images=1000, wall_s=1000 / images_per_s, core_s=1000 * core_s, num_bytes=num_bytes)


def rank_measured(
    rank: int = 0,
    *,
    rates: Mapping[StageName, float] = RATES,
    core_s: Mapping[StageName, float] | None = None,
    parts: Mapping[PartName, float] = PARTS,
    wait_s: float = 0.0,
    cores: float = 0.0,
    num_cores: float = 4.0,
) -> RankMeasurements:
    """What one rank measured."""
    of_cores = core_s or {}
    waiting: dict[PartName, float] = {"data wait": wait_s}
    there: dict[PartName, float] = {"data wait": 0.0}
    return RankMeasurements(
        rank=rank,
        host=f"host{rank // 2}",
        num_cores=num_cores,
        stages={name: stage(rate, core_s=of_cores.get(name, 0.0)) for name, rate in rates.items()},
        epoch=steps(waiting | dict(parts), cores=cores),
        synthetic=steps(there | dict(parts), cores=cores),
        first_batch_s=0.25,
    )


def measured(ranks: Sequence[RankMeasurements] | None = None, *, subject: Any = None, **changes: Any) -> Measurements:
    """A whole profile; by default of one GPU, bound by its step."""
    ranks = tuple(ranks or [rank_measured()])
    found = Measurements(
        subject=replace(SUBJECT, world_size=len(ranks), **(subject or {})),
        environment=ENVIRONMENT,
        ranks=ranks,
        num_train=10_000,
        epochs=3,
        num_params=7_000_000,
        train_bytes=1 << 30,
        free_bytes=8 << 30,
    )
    return replace(found, **changes)


def on_cpu(found: Measurements) -> Measurements:
    """The same, measured without a GPU."""
    ranks = tuple(
        replace(rank, stages={name: kept for name, kept in rank.stages.items() if name != "host to device"})
        for rank in found.ranks
    )
    return replace(found, subject=replace(found.subject, device="cpu", precision="fp32"), ranks=ranks)
