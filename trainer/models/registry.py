"""Models by name."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol

import torch
from torch import nn

from manifests.errors import ConfigError
from trainer.models.densenet import DenseNet121
from trainer.models.small import SmallNet
from trainer.models.timm_backbone import PREFIX, build_timm, is_timm


class MakeModel(Protocol):
    """How a network is made: images [B, 1, S, S] -> logits [B, outputs]."""

    def __call__(self, num_outputs: int, *, recompute: bool = False) -> nn.Module:
        """Return the network, initialised from torch's global random state."""
        ...


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """How a model is made, and the smallest images that it takes."""

    make: MakeModel
    """From the number of outputs to a module."""

    min_size_px: int
    """Smallest side of an image."""

    min_size_alone_px: int
    """Smallest side of an image that is a training step by itself: batch statistics need two values a channel, also
    where the features are smallest."""

    description: str
    """One line for people."""


MODELS: dict[str, ModelSpec] = {
    "densenet121": ModelSpec(
        make=DenseNet121,
        min_size_px=32,
        min_size_alone_px=61,
        description="DenseNet-121, one channel, 7 M parameters",
    ),
    "small": ModelSpec(
        make=SmallNet,
        min_size_px=32,
        min_size_alone_px=32,
        description="residual network for CPUs, 0.3 M parameters",
    ),
}
"""Name -> model; beside these `timm:NAME`."""


def refuse_small_images_alone(name: str, *, input_size_px: int, step_sizes: Iterable[int]) -> None:
    """Refuse steps, or parts of them, of a single image that is too small to have batch statistics.

    Raises:
        ConfigError: there is such a step.
    """
    smallest_px = MODELS[name].min_size_alone_px if name in MODELS else 0
    if input_size_px < smallest_px and 1 in step_sizes:
        raise ConfigError(
            f"model.name={name}: a step has a single image, of {input_size_px} px, and batch statistics need more; "
            f"use --set loader.batch_size=3 or more and at least two images, fewer parts (step.accumulate), or images "
            f"of {smallest_px} px"
        )


def build_model(
    name: str, num_outputs: int, *, input_size_px: int, channels_last: bool = True, recompute: bool = False
) -> nn.Module:
    """Return a model in train mode, initialised from torch's global random state.

    Args:
        name: a key of `MODELS`, or `timm:NAME`.
        num_outputs: outputs of the label space.
        input_size_px: side of the images after augmentation.
        channels_last: whether weights and features lie with their channels side by side.
        recompute: whether the backward pass computes features again instead of keeping them.

    Raises:
        ConfigError: no such model, or images that are too small for it.
        MissingBackendError: timm is not installed.
    """
    if is_timm(name):
        model = build_timm(name, num_outputs, input_size_px=input_size_px, recompute=recompute)
    else:
        model = _own(name, input_size_px).make(num_outputs, recompute=recompute)
    return _with_channels_last(model) if channels_last else model


def _own(name: str, input_size_px: int) -> ModelSpec:
    spec = MODELS.get(name)
    if spec is None:
        near = get_close_matches(name, MODELS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"model.name={name}: unknown{hint} (there are: {', '.join(MODELS)}, {PREFIX}NAME)")
    if input_size_px < spec.min_size_px:
        raise ConfigError(f"model.name={name}: images of {input_size_px} px; it takes {spec.min_size_px} px and more")
    return spec


def _with_channels_last(model: nn.Module) -> nn.Module:
    """Lay the weights channels_last, and the images so that all features follow.

    An image of one channel lies both ways at once, and then convolutions choose the other one: the strides must say it.
    """
    for param in model.parameters():
        if param.ndim == 4:
            param.data = param.data.contiguous(memory_format=torch.channels_last)
    model.register_forward_pre_hook(_images_channels_last)
    return model


def _images_channels_last(module: nn.Module, images: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    """Return the same images [B, 1, H, W] with strides that only channels_last has."""
    (images_B1HW,) = images
    num_images, _, height, width = images_B1HW.shape
    return (images_B1HW.reshape(num_images, height, width, 1).permute(0, 3, 1, 2),)
