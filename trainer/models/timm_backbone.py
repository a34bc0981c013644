"""Networks of timm (PyTorch Image Models) by `timm:NAME`; the package is needed only where one is chosen."""

from difflib import get_close_matches
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from manifests.errors import ConfigError
from pipeline.errors import MissingBackendError

PREFIX = "timm:"


def is_timm(name: str) -> bool:
    """Tell whether a model's name is one of timm's."""
    return name.startswith(PREFIX)


def build_timm(
    name: str, num_outputs: int, *, input_size_px: int, recompute: bool = False, pretrained: bool = False
) -> nn.Module:
    """Return a network of timm for one-channel images.

    Args:
        name: `timm:NAME` or `timm:NAME.TAG`.
        num_outputs: width of the classifier.
        input_size_px: side of the images; a network that is made for one size only is made for this one.
        recompute: activation checkpointing, where the network has it.
        pretrained: with timm's weights; the stem's three channels are added up, as timm does it.

    Raises:
        MissingBackendError: timm is not installed.
        ConfigError: no such network, none of this size, no such weights, or one that cannot recompute.
    """
    timm = _imported()
    bare = name.removeprefix(PREFIX)
    if not timm.is_model(bare.partition(".")[0]):
        near = get_close_matches(bare, timm.list_models(), n=3)
        hint = f"; did you mean {', '.join(PREFIX + other for other in near)}?" if near else ""
        raise ConfigError(f"model.name={name}: timm {timm.__version__} has no such network{hint}")
    options: dict[str, Any] = {"in_chans": 1, "num_classes": num_outputs}
    if getattr(timm.get_pretrained_cfg(bare), "fixed_input_size", False):
        options["img_size"] = input_size_px
    try:
        model: nn.Module = timm.create_model(bare, pretrained=pretrained, **options)
    except (RuntimeError, ValueError, AssertionError, OSError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        what = "its weights could not be had" if pretrained else f"it cannot be made for {input_size_px} px"
        raise ConfigError(f"model.name={name}: {what} ({first_line})") from error
    if recompute:
        _switch_on_recompute(model, name)
    return model


def timm_weights(name: str, num_outputs: int, *, input_size_px: int) -> dict[str, torch.Tensor]:
    """Return the state dict of timm's pretrained network; the classifier is new where its width is another."""
    return build_timm(name, num_outputs, input_size_px=input_size_px, pretrained=True).state_dict()


def _imported() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise MissingBackendError(
            f"model.name={PREFIX}...: timm cannot be imported ({error}); `pip install 'cxr-nvum[timm]'`, "
            "or choose densenet121 or small"
        ) from error
    module: ModuleType = timm
    return module


def _switch_on_recompute(model: nn.Module, name: str) -> None:
    if any(isinstance(layer, _BatchNorm) for layer in model.modules()):
        raise ConfigError(
            f"model.recompute=true: timm's recomputation would count each batch twice in the running statistics of "
            f"{name}; leave it out, or choose a network without BatchNorm"
        )
    try:
        model.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError) as error:
        raise ConfigError(f"model.recompute=true: {name} has no recomputation; leave it out") from error
