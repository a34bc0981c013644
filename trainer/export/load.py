"""An exported model, loaded again: the bits of the run's own."""

from pathlib import Path

import torch

from manifests.errors import ConfigError
from trainer.export.image_model import ImageModel
from trainer.export.weights_file import SUFFIX, WEIGHTS_FILE, read_weights
from trainer.models.registry import build_model


def load_exported(path: Path | str, *, device: torch.device | str = "cpu") -> ImageModel:
    """Return a model that `cxr-train export` wrote: same weights, same probabilities, to the bit.

    Args:
        path: the folder, or the .safetensors file.
        device: where to put it.

    Raises:
        ConfigError: nothing of the kind there, or weights that do not fit the network that they are said to be of.
    """
    path = Path(path)
    file = path / WEIGHTS_FILE if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"{file}: no such file; `cxr-train export --run DIR --out {path}` writes it")
    state, description = read_weights(file)
    device = torch.device(device)
    module = build_model(
        description.model,
        len(description.findings),
        input_size_px=description.input_size_px,
        channels_last=description.channels_last,
    )
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(f"{file}: its weights are not those of the model {description.model}") from error
    return ImageModel(module=module.to(device).eval(), description=description, device=device)


def is_exported(path: Path) -> bool:
    """Tell whether a path is an exported model by its name, or a folder that holds one."""
    return (path / WEIGHTS_FILE).is_file() if path.is_dir() else path.suffix == SUFFIX
