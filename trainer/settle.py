"""What `auto` and 0 mean here: a configuration with every open choice made, as it goes into config.json."""

import os
from dataclasses import replace

import torch

from manifests.errors import ConfigError
from pipeline.cores import usable_cores
from pipeline.pack import Pack
from trainer.config import TrainConfig
from trainer.precision import resolve_precision


def settle(config: TrainConfig, pack: Pack) -> TrainConfig:
    """Return `config` with pack, image size, teacher, precision, device and thread count settled.

    Raises:
        ConfigError: a device that is not there, a precision that it lacks, images larger than those of the pack.
    """
    device = resolve_device(config.run.device)
    short_side_px = min(pack.height_px, pack.width_px)
    size_px = config.model.input_size_px or short_side_px
    if size_px > short_side_px:
        raise ConfigError(
            f"model.input_size_px={size_px}: the images of {pack.folder} have {pack.spec.size} px; "
            f"run `cxr-prep pack --size {size_px}` and name that pack, or --set model.input_size_px={short_side_px}"
        )
    return replace(
        config,
        data=replace(config.data, pack=str(pack.folder.resolve())),
        model=replace(config.model, input_size_px=size_px),
        ema=replace(config.ema, enabled="on" if config.has_teacher else "off"),
        step=replace(config.step, precision=resolve_precision(config.step.precision, device)),
        run=replace(config.run, device=str(device), num_threads=config.run.num_threads or usable_cores()),
    )


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


def refuse_several_processes() -> None:
    """Refuse to be one of several processes, which would each train the same run.

    Raises:
        ConfigError: the environment says that there are several.
    """
    world_size = os.environ.get("WORLD_SIZE", "1")
    if world_size != "1":
        raise ConfigError(
            f"WORLD_SIZE={world_size}: training on several processes is not part of this version; "
            "start cxr-train by itself, without torchrun"
        )
