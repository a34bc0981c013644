"""Weights and their description in one safetensors file: what other code can read without running any."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from manifests.atomic import write_bytes_atomically
from manifests.errors import ConfigError
from trainer.export.description import ModelDescription

SUFFIX = ".safetensors"
WEIGHTS_FILE = "model" + SUFFIX

KEY = "cxr-nvum"
"""Key of the file's metadata: JSON of `ModelDescription`; the only one, since safetensors puts several in any order."""


def write_weights(path: Path, state: Mapping[str, torch.Tensor], description: ModelDescription) -> None:
    """Write a state dict with its description, whole or not at all: the same weights give the same bytes."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_bytes_atomically(path, save(tensors, metadata={KEY: description.to_json()}))


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], ModelDescription]:
    """Return what `write_weights` wrote.

    Raises:
        ConfigError: no such file, a damaged one, or weights that somebody else wrote.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(KEY)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path}: not a safetensors file that can be read ({error})") from error
    if text is None:
        raise ConfigError(f"{path}: weights without a description under {KEY!r}; `cxr-train export` writes one")
    return state, ModelDescription.from_json(text, str(path))
