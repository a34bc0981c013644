"""Going on with a run: which checkpoint, whether it fits, and what of the history is cut back."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from manifests.errors import ConfigError
from trainer.checkpoint import Checkpoint, Identities, read_checkpoint
from trainer.config import TrainConfig
from trainer.distributed import Ranks
from trainer.events import cut_back
from trainer.nvum import cpu_implementation
from trainer.run_folder import RunFolder
from trainer.sections import as_values

logger = logging.getLogger(__name__)

FREE_KEYS = frozenset(
    {
        "data.labels",
        "data.pack",
        "lab.clean_labels",
        "lab.num_images",
        "loader.backend",
        "loader.num_threads",
        "loader.on_corrupt",
        "loader.prefetch",
        "loader.verify",
        "model.channels_last",
        "model.recompute",
        "optim.fused",
        "run.checkpoint_every_minutes",
        "run.checkpoint_every_steps",
        "run.device",
        "run.log_every_steps",
        "run.num_threads",
        "run.tensorboard",
        "run.wandb",
        "run.wandb_project",
        "step.compile",
        "step.cuda_graph",
        "step.cudnn_benchmark",
        "step.on_nonfinite",
    }
)
"""What may be set anew when a run goes on: where and how it computes and what it writes, not what it computes.

The pack and the labels may have moved; their identities must be the same.
"""


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """Where a run goes on from."""

    path: Path
    """The checkpoint."""

    checkpoint: Checkpoint
    """What is in it."""


def newest_readable(run: RunFolder, identities: Identities) -> Resumption | None:
    """Return the newest checkpoint that can be read; None where the run has none yet.

    One that cannot be read (a damaged disk: they are written whole) is passed over with a warning.

    Raises:
        ConfigError: none of those that are there can be read, or the newest readable one belongs to something else.
    """
    paths = run.checkpoints.newest_first()
    failure: ConfigError | None = None
    for path in paths:
        try:
            checkpoint = read_checkpoint(path)
        except ConfigError as error:
            logger.warning("%s; going on from the one before", error)
            failure = error
            continue
        identities.check(checkpoint["identities"], path)
        return Resumption(path=path, checkpoint=checkpoint)
    if failure is not None:
        raise failure
    return None


def cut_history(run: RunFolder, resumed: Resumption | None) -> None:
    """Move the events after the checkpoint to events.lost.jsonl: they happen again.

    A history that is gone, or a part of it, costs curves and no training: it is said once.
    """
    num_bytes = 0 if resumed is None else resumed.checkpoint["events_num_bytes"]
    found = run.events_file.stat().st_size if run.events_file.is_file() else 0
    if found < num_bytes:
        logger.warning(
            "%s: a part of the history is gone (%d bytes, expected %d or more): training goes on, but curves lack it; "
            "stop the run and restore the file if there is a copy of it",
            run.events_file, found, num_bytes,
        )  # fmt: skip
    num_lost = cut_back(run.events_file, run.lost_events_file, num_bytes=num_bytes)
    if num_lost:
        logger.info("%s: %d bytes moved to %s", run.events_file, num_lost, run.lost_events_file.name)


def differences_of_process(checkpoint: Checkpoint, ranks: Ranks, *, batch_size: int) -> list[str]:
    """Return warnings of what makes the bits of a resumed run others than those of an undisturbed one."""
    warnings = []
    before, now = checkpoint["num_threads"], torch.get_num_threads()
    if before != now:
        warnings.append(
            f"run.num_threads={now}, the checkpoint was written with {before}: on the CPU the results go on "
            "with other bits than those of an undisturbed run"
        )
    begun = checkpoint["config"]
    way_before, way_now = checkpoint.get("cpu_nvum_step"), cpu_implementation()  # earlier versions wrote none
    if way_before not in (None, way_now) and begun["loss"]["name"] == "nvum" and begun["run"]["device"] == "cpu":
        warnings.append(
            f"the NVUM step is {way_now} here, the checkpoint was written with {way_before}: on the CPU the results go "
            "on with other bits than those of an undisturbed run (native needs a C compiler when the project is "
            "installed)"
        )
    before, now = checkpoint["world_size"], ranks.world_size
    if before != now:
        warnings.append(
            f"{now} processes, the checkpoint was written by {before}: from here on a step has {now * batch_size} "
            f"samples instead of {before * batch_size}, and batch statistics and memory mixup are other ones; every "
            "sample still comes once an epoch"
        )
    return warnings


def refuse_other_results(before: TrainConfig, now: TrainConfig, run: RunFolder) -> None:
    """Refuse to go on with settings that would make it another run.

    Raises:
        ConfigError: names the setting, what the run has and what was asked for.
    """
    for name, begun, asked in differing_settings(before, now):
        raise ConfigError(
            f"{name}={asked}: the run {run.folder} was begun with {begun}; "
            "resume without it, or start a new run without --resume"
        )


def what_ranks_share(config: TrainConfig, identities: Identities) -> list[tuple[str, object]]:
    """Return by name what is the same on all ranks of a run: all but where data lie and how many cores there are."""
    named: list[tuple[str, object]] = [("version of torch", torch.__version__)]
    named += [(name.replace("_", " "), str(value)) for name, value in vars(identities).items()]
    named += [(f"{section}.{key}", value) for section, keys in as_values(config).items() for key, value in keys.items()]
    return [
        (name, value)
        for name, value in named
        if name not in ("data.labels", "data.pack", "lab.clean_labels", "run.num_threads")
    ]


def differing_settings(one: TrainConfig, other: TrainConfig) -> Iterator[tuple[str, object, object]]:
    """Yield name and both values of each setting that results depend on and that is not the same in both."""
    values = as_values(other)
    for section, keys in as_values(one).items():
        for key, value in keys.items():
            name = f"{section}.{key}"
            if name not in FREE_KEYS and values[section][key] != value:
                yield name, value, values[section][key]
