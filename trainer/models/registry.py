"""Models by name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import nn

from manifests.errors import ConfigError
from trainer.models.densenet import DenseNet121
from trainer.models.small import SmallNet


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """How a model is made, and the smallest images that it takes."""

    make: Callable[[int], nn.Module]
    """From the number of outputs to a module: images [B, 1, S, S] -> logits [B, outputs]."""

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
"""Name -> model. A later family of names (`timm:NAME`) gets its own branch in `build_model`."""


def refuse_small_images_alone(name: str, *, input_size_px: int, step_sizes: Iterable[int]) -> None:
    """Refuse steps of a single image that is too small to have batch statistics.

    Raises:
        ConfigError: there is such a step.
    """
    smallest_px = MODELS[name].min_size_alone_px if name in MODELS else 0
    if input_size_px < smallest_px and 1 in step_sizes:
        raise ConfigError(
            f"model.name={name}: a step has a single image, of {input_size_px} px, and batch statistics need more; "
            f"use --set loader.batch_size=3 or more and at least two images, or images of {smallest_px} px"
        )


def build_model(name: str, num_outputs: int, *, input_size_px: int) -> nn.Module:
    """Return a model in train mode, initialised from torch's global random state.

    Its weights lie channels_last, and so do the features of one-channel images that pass through it: on two cores that
    is 1.9 times the speed for `small` and 1.15 times for `densenet121`.

    Args:
        name: a key of `MODELS`.
        num_outputs: outputs of the label space.
        input_size_px: side of the images after augmentation.

    Raises:
        ConfigError: no such model, or images that are too small for it.
    """
    spec = MODELS.get(name)
    if spec is None:
        near = get_close_matches(name, MODELS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"model.name={name}: unknown{hint} (there are: {', '.join(MODELS)})")
    if input_size_px < spec.min_size_px:
        raise ConfigError(f"model.name={name}: images of {input_size_px} px; it takes {spec.min_size_px} px and more")
    model = spec.make(num_outputs)
    for param in model.parameters():
        if param.ndim == 4:
            param.data = param.data.contiguous(memory_format=torch.channels_last)
    return model
