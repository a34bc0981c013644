"""Number formats of the forward pass: autocast and, for fp16, a gradient scaler."""

from contextlib import AbstractContextManager
from typing import Literal, get_args

import torch

from manifests.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]
PrecisionOption = Literal["auto", "fp32", "bf16", "fp16"]

AUTOCAST_TYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(option: PrecisionOption, device: torch.device) -> Precision:
    """Return the format that `option` means on a device; `auto`: bf16 on a GPU that has it, else fp32.

    Raises:
        ConfigError: not an option, or not one of this device.
    """
    if option not in get_args(PrecisionOption):
        raise ConfigError(f"step.precision={option}: expected {', '.join(get_args(PrecisionOption))}")
    has_bf16 = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    if option == "auto":
        return "bf16" if device.type == "cuda" and has_bf16 else "fp32"
    if option == "bf16" and not has_bf16:
        raise ConfigError("step.precision=bf16: this GPU has no bf16; use fp16 or fp32")
    return option


def autocast(precision: Precision, device: torch.device, *, keeps_casts: bool = True) -> AbstractContextManager[object]:
    """Return the context of a forward pass; enter it for the models only, the loss computes in float32 by itself.

    Args:
        precision: fp32 leaves everything as it is.
        device: where the models are.
        keeps_casts: whether weights that were cast are kept until the context ends; a CUDA graph must cast its own.
    """
    dtype = AUTOCAST_TYPES.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None, cache_enabled=keeps_casts)


def gradient_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Return a scaler that keeps fp16's small gradients; switched off (a pass-through) for the other formats."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
