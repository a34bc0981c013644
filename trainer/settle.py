"""What `auto` and 0 mean here: a configuration with every open choice made, as it goes into config.json."""

from dataclasses import replace
from pathlib import Path

import torch

from manifests.errors import ConfigError
from pipeline.cores import usable_cores
from pipeline.pack import Pack
from trainer.config import TrainConfig
from trainer.distributed import Ranks
from trainer.precision import resolve_precision


def settle(config: TrainConfig, pack: Pack, ranks: Ranks) -> TrainConfig:
    """Return `config` with pack, labels, image size, teacher, precision, device and thread count settled.

    Each rank has a device and a share of the cores of its own; of the device the configuration names the kind.

    Raises:
        ConfigError: a device that is not there, a precision that it lacks, images larger than those of the pack.
    """
    device = device_of_rank(config.run.device, ranks)
    if config.step.sync_batchnorm and device.type != "cuda" and not ranks.is_alone:
        raise ConfigError(
            "step.sync_batchnorm=true: torch synchronises BatchNorm on GPUs only; leave it out on the CPU"
        )
    if config.step.cuda_graph and (device.type != "cuda" or not ranks.is_alone):
        where = "a CPU" if device.type != "cuda" else "several GPUs here"
        raise ConfigError(f"step.cuda_graph=true: there are no CUDA graphs on {where}; leave it out")
    short_side_px = min(pack.height_px, pack.width_px)
    size_px = config.model.input_size_px or short_side_px
    if size_px > short_side_px:
        raise ConfigError(
            f"model.input_size_px={size_px}: the images of {pack.folder} have {pack.spec.size} px; "
            f"run `cxr-prep pack --size {size_px}` and name that pack, or --set model.input_size_px={short_side_px}"
        )
    return replace(
        config,
        data=replace(
            config.data,
            pack=str(pack.folder.resolve()),
            labels=_resolved(config.data.labels),
        ),
        lab=replace(config.lab, clean_labels=_resolved(config.lab.clean_labels)),
        model=replace(config.model, input_size_px=size_px),
        ema=replace(config.ema, enabled="on" if config.has_teacher else "off"),
        step=replace(config.step, precision=resolve_precision(config.step.precision, device)),
        run=replace(
            config.run,
            device=str(device) if ranks.is_alone else device.type,
            num_threads=config.run.num_threads or max(1, usable_cores() // ranks.local_world_size),
        ),
    )


def _resolved(path: str | None) -> str | None:
    """Return a path that holds wherever the run goes on."""
    return None if path is None else str(Path(path).resolve())


def device_of_rank(name: str, ranks: Ranks) -> torch.device:
    """Return the device called `name`; of several ranks on this machine each has its own GPU.

    Raises:
        ConfigError: no such device, one number for several ranks, or fewer GPUs than ranks.
    """
    device = resolve_device(name)
    if ranks.is_alone or device.type == "cpu":
        return device
    if device.index is not None:
        raise ConfigError(
            f"run.device={name}: one GPU for {ranks.world_size} processes; use --set run.device=cuda, each then takes "
            "its own"
        )
    num_devices = torch.cuda.device_count()
    if ranks.local_rank >= num_devices:
        raise ConfigError(
            f"{ranks.local_world_size} processes on a machine with {num_devices} CUDA devices that torch can use; "
            f"start it with `torchrun --nproc-per-node {num_devices}`, or use --set run.device=cpu"
        )
    return torch.device("cuda", ranks.local_rank)


def resolve_device(name: str) -> torch.device:
    """Return the device called `name`; `auto`: the GPU where there is one.

    Raises:
        ConfigError: no such device, here or at all.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()) or (kind == "cpu" and number):
        raise ConfigError(f"run.device={name}: expected auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"run.device={name}: this machine has {torch.cuda.device_count()} CUDA devices that torch can use; "
            "use --set run.device=cpu"
        )
    return torch.device(name)
