"""From settings to measurements: what a profile does, in which order, and how long each part may take.

The disk comes first, before anything is mapped; then steps as they run, while little of the pack was read; then the
loader by itself, and the step by itself. Weights move and are thrown away; nothing is written.
"""

import platform
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch

from manifests.errors import ConfigError
from pipeline.augment import AugmentConfig
from pipeline.batch import Batch
from pipeline.cores import usable_cores
from pipeline.loaders import LoadedStep, open_loader
from pipeline.loaders.memory import free_bytes
from pipeline.prepare import slower_path
from trainer.config import TrainConfig
from trainer.data import TrainingData
from trainer.distributed import ALONE, Ranks
from trainer.parts import Parts, opened, settled
from trainer.profile.device_busy import device_busy
from trainer.profile.environment import this_environment
from trainer.profile.measurements import Measurements, RankMeasurements, Stage, StageName, Subject
from trainer.profile.recorder import HostClock, MeasuredStep, Recorder
from trainer.profile.stages import copy_to_device, load, prepare, storage_stages
from trainer.profile.steps import run_steps
from trainer.sections import Values, build
from trainer.settle import device_of_rank

EPOCH_SHARE, SYNTHETIC_SHARE, LOADER_SHARE, STAGE_SHARE = 0.35, 0.2, 0.1, 0.03
"""Shares of the time: steps as they run, the step by itself, the loader by itself, each of the other stages; what is
left is for opening, building and warming up."""

LEAST_S = 2.0
"""Shortest profile."""


@dataclass
class _Time:
    """What is left of a profile's time."""

    max_seconds: float
    clock_s: Callable[[], float]

    def __post_init__(self) -> None:
        self._begun_s = self.clock_s()

    def share(self, share: float) -> float:
        """Return the seconds that a part may take: its share, a quarter of it where less than that is left."""
        left_s = self.max_seconds - (self.clock_s() - self._begun_s)
        own_s = share * self.max_seconds
        return max(own_s / 4, min(own_s, 0.8 * left_s))


def profile(
    given: Values,
    *,
    max_seconds: float = 90.0,
    ranks: Ranks = ALONE,
    clock_s: Callable[[], float] = time.monotonic,
) -> Measurements | None:
    """Return what was measured, on rank 0; None on the others.

    Args:
        given: settings of the run that is asked about, over the defaults.
        max_seconds: after which it ends, or a quarter later where opening and building took all of it; what cannot be
            shorter (a first step, a compiler) may go beyond that.
        ranks: the processes of the run; all of them call this and measure at the same time.
        clock_s: seconds that only go forwards.

    Raises:
        UserError: whatever would keep the run from beginning.
    """
    if not max_seconds >= LEAST_S:
        raise ranks.shared(ConfigError(f"--max-seconds {max_seconds:g}: expected {LEAST_S:g} or more"))
    left = _Time(max_seconds, clock_s)
    with ExitStack() as stack:
        with ranks.together():
            config, data = settled(build(TrainConfig, given, source="configuration"), ranks)
            device = device_of_rank(config.run.device, ranks)
            # Checksums are compared in a run's first epoch only.
            config = replace(config, loader=replace(config.loader, verify=False))
        environment = this_environment(device)
        ranks.largest(0)  # begin together
        with ranks.together():
            stages, image_bytes = storage_stages(
                data.pack, data.train.sample_index_n, config.loader, device, left.share(STAGE_SHARE)
            )
        parts = opened(stack, config, data, ranks, load_weights=False)
        step = MeasuredStep(config, data, parts.state, parts.ranks)
        epoch = run_steps(step, parts.train_loader, parts, seconds=left.share(EPOCH_SHARE))
        ranks.largest(0)
        if config.loader.backend != "synthetic":
            stages["loader"] = load(
                parts.train_loader, step.device, left.share(LOADER_SHARE), prefetch=config.loader.prefetch
            )
        stages |= _device_stages(config, data, step.device, left)
        synthetic_loader = stack.enter_context(
            open_loader(
                replace(config.loader, backend="synthetic"),
                pack=data.pack,
                sample_index_n=data.train.sample_index_n,
                seed=config.run.seed,
                device=step.device,
                rank=ranks.rank,
                world_size=ranks.world_size,
            )
        )
        synthetic = run_steps(step, synthetic_loader, parts, seconds=left.share(SYNTHETIC_SHARE))
        measured = RankMeasurements(
            rank=ranks.rank,
            host=platform.node(),
            num_cores=usable_cores() / ranks.local_world_size,
            stages=stages,
            epoch=epoch.steps,
            synthetic=synthetic.steps,
            first_batch_s=epoch.first_batch_s,
            device_busy=_busy(step, parts),
        )
        of_ranks = ranks.gather_first(measured)
        if not ranks.is_first:
            return None
        return Measurements(
            subject=_subject(config, data, ranks),
            environment=environment,
            ranks=tuple(of_ranks),
            num_train=data.train.num_selected,
            epochs=config.run.epochs,
            num_params=sum(param.numel() for param in parts.state.student.parameters()),
            train_bytes=int(image_bytes * data.train.num_selected),
            free_bytes=free_bytes(torch.device("cpu")),
            program=ranks.program,
            slower_path=slower_path(step.device),
        )


def _device_stages(
    config: TrainConfig, data: TrainingData, device: torch.device, left: _Time
) -> dict[StageName, Stage]:
    """Return copying, normalising and augmenting of one batch, again and again."""
    pack, size_px = data.pack, config.model.input_size_px
    num_images = min(config.loader.batch_size, data.train.num_selected)
    batch = Batch(
        torch.randint(0, 256, (num_images, 1, pack.height_px, pack.width_px), dtype=torch.uint8).to(device),
        torch.arange(num_images, device=device),
    )
    stages: dict[StageName, Stage] = {}
    copied = copy_to_device(pack, num_images, device, left.share(STAGE_SHARE))
    if copied is not None:
        stages["host to device"] = copied
    for name, augment in (("normalise", None), ("augment", config.augment)):
        stages[name] = prepare(  # type: ignore[index]
            batch, augment, out_size_px=size_px, device=device, seconds=left.share(STAGE_SHARE)
        )
    return stages


def _busy(step: MeasuredStep, parts: Parts) -> float | None:
    if step.device.type != "cuda":
        return None
    step.recorder = Recorder(HostClock())
    rows_B = parts.data.train.sample_index_n[: parts.config.loader.batch_size]
    pack = parts.data.pack
    images_B1HW = torch.zeros((len(rows_B), 1, pack.height_px, pack.width_px), dtype=torch.uint8, device=step.device)
    loaded = LoadedStep(
        Batch(images_B1HW, torch.from_numpy(rows_B).to(step.device)),
        len(rows_B) * parts.ranks.world_size,
        len(rows_B) * parts.ranks.world_size,
    )
    return device_busy(lambda: step(loaded, rows_B), step.device)


def _subject(config: TrainConfig, data: TrainingData, ranks: Ranks) -> Subject:
    return Subject(
        loader=config.loader.backend,
        pack_format=data.pack.format,
        pack_size_px=data.pack.height_px,
        input_size_px=config.model.input_size_px,
        batch_size=config.loader.batch_size,
        loader_threads=config.loader.num_threads,
        torch_threads=config.run.num_threads,
        model=config.model.name,
        loss=config.loss.name,
        teacher=config.has_teacher,
        precision=config.step.precision,
        device=torch.device(config.run.device).type,
        world_size=ranks.world_size,
        augmented=config.augment != AugmentConfig.none(),
    )
