"""What a run would be, without one: configuration, size, memory, time. Nothing is written."""

import statistics
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

import torch

from pipeline.loaders.memory import free_bytes
from pipeline.order import epoch_order
from trainer.config import TrainConfig
from trainer.data import TrainingData
from trainer.display import duration
from trainer.distributed import ALONE, Ranks
from trainer.memory_estimate import Need, memory_needs
from trainer.methods import METHODS
from trainer.parts import Parts, opened, settled
from trainer.recipe_text import settings_lines
from trainer.sections import Values, as_values, build
from trainer.step import TrainStep

NUM_TIMED = 5
"""Steps that are timed, after one that warms up."""

PATIENCE_S = 20.0
"""Where steps are so slow that this time is over, fewer are."""


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a run would be."""

    config: TrainConfig
    """With every `auto` settled."""

    data: TrainingData
    """What it would train on."""

    num_params: int
    """Of the network."""

    needs: list[Need]
    """What takes memory on the device of one process."""

    free_bytes: int
    """What that device has free now."""

    steps_per_epoch: int
    """Optimiser steps."""

    world_size: int
    """Processes."""

    step_s: float
    """Median of the timed steps, loading included."""

    num_timed: int
    """How many those are."""

    @property
    def needed_bytes(self) -> int:
        """All needs together."""
        return sum(need.num_bytes for need in self.needs)

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return self.config.run.epochs * self.steps_per_epoch


def dry_run(given: Values, *, ranks: Ranks = ALONE) -> DryRun:
    """Return what a run would be; takes a few of its steps in memory and writes nothing.

    Args:
        given: what was asked for, over the defaults.
        ranks: the processes of the run; all of them call this.

    Raises:
        UserError: whatever would keep the run from beginning.
    """
    with ExitStack() as stack:
        with ranks.together():
            config, data = settled(build(TrainConfig, given, source="configuration"), ranks)
        pack = data.pack
        needs = memory_needs(
            config,
            num_rows=pack.num_samples,
            num_outputs=len(data.space.findings),
            pack_image_bytes=pack.height_px * pack.width_px,
        )
        free = free_bytes(torch.device(config.run.device))
        parts = opened(stack, config, data, ranks, load_weights=True)
        step = TrainStep(config, data, parts.state, parts.ranks)
        times_s = list(_step_times(step, parts))
        timed_s = times_s[1:] or times_s
        return DryRun(
            config=config,
            data=data,
            num_params=sum(param.numel() for param in parts.state.student.parameters()),
            needs=needs,
            free_bytes=free,
            steps_per_epoch=step.steps_per_epoch,
            world_size=ranks.world_size,
            step_s=statistics.median(timed_s),
            num_timed=len(timed_s),
        )


def _step_times(step: TrainStep, parts: Parts) -> Iterator[float]:
    """Yield how long each of the first steps takes; the same number on every rank."""
    config, ranks, rows_n = parts.config, parts.ranks, parts.data.train.sample_index_n
    order = epoch_order(
        len(rows_n),
        epoch=0,
        seed=config.run.seed,
        batch_size=config.loader.batch_size,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    begun_s = last_s = perf_counter()
    with closing(parts.train_loader.train_batches(0, 0)) as batches:
        for ordered, loaded in islice(zip(order, batches, strict=False), 1 + NUM_TIMED):
            step(loaded, rows_n[ordered.positions_B])
            if step.device.type == "cuda":
                torch.cuda.synchronize(step.device)
            now_s = perf_counter()
            yield now_s - last_s
            last_s = now_s
            (is_over,) = ranks.largest(int(now_s - begun_s > PATIENCE_S))
            if is_over:
                return


def report(run: DryRun) -> str:
    """Return the dry run as people read it, and as a recipe: what is no setting is a comment of TOML."""
    facts = [*_what(run), "", *_memory(run), "", *_time(run)]
    comments = [f"# {line}".rstrip() for line in facts]
    return "\n".join([*comments, "", *settings_lines(as_values(run.config))])


def _what(run: DryRun) -> Iterator[str]:
    config, data = run.config, run.data
    yield "dry run: nothing was written; what follows is a recipe"
    yield ""
    yield f"training    {data.train.num_selected:,} images of {data.pack.folder}"
    yield f"validation  {data.valid.num_selected:,} images" if data.valid.num_selected else "validation  no images"
    if data.labels is not None:
        yield f"labels      those of {data.labels}"
    yield f"outputs     {len(data.space.findings)}: {', '.join(data.space.findings)}"
    yield f"network     {config.model.name}, {run.num_params:,} parameters, {config.model.input_size_px} px"
    teacher = f", EMA teacher (decay {config.ema.decay:g})" if config.has_teacher else ""
    yield f"loss        {config.loss.name} ({METHODS[config.loss.name].source}){teacher}"


def _memory(run: DryRun) -> Iterator[str]:
    device = torch.device(run.config.run.device)
    name = f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else "the CPU"
    yield f"memory of a step on {name}"
    width = max(len(need.what) for need in run.needs)
    for need in run.needs:
        yield f"  {need.what:<{width}}  {_size(need.num_bytes):>10}  {need.arithmetic}"
    yield f"  {'together':<{width}}  {_size(run.needed_bytes):>10}  workspaces and what lies between not counted"
    verdict = "fits" if run.needed_bytes <= run.free_bytes else "DOES NOT FIT"
    yield f"  {verdict}: {_size(run.free_bytes)} are free"
    if run.needed_bytes > run.free_bytes:
        yield "  smaller: --set step.accumulate=2 (parts of a batch), model.recompute=true, loader.batch_size=..."


def _time(run: DryRun) -> Iterator[str]:
    epochs, per_epoch = run.config.run.epochs, run.steps_per_epoch
    processes = "" if run.world_size == 1 else f" of {run.world_size} processes"
    yield f"steps       {per_epoch:,} an epoch x {epochs} epochs = {run.num_steps:,}{processes}"
    rate = run.data.train.num_selected / per_epoch / run.step_s
    yield f"a step      {run.step_s:.3g} s, {rate:,.0f} images/s (median of {run.num_timed} after one to warm up)"
    yield f"all steps   {duration(run.num_steps * run.step_s)}, without validation and checkpoints"


def _size(num_bytes: int) -> str:
    """Return a number of bytes in the largest unit of which there is one."""
    number = float(num_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
