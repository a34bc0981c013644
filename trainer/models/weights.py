"""Pretrained weights: torchvision's ImageNet file, or one on disk.

One input channel instead of three: gray replicated to R, G and B meets the same three filters, so their sum over the
input channels is the filter for one channel. That holds at every pixel, the zero padding included, as long as all three
channels are normalised by one mean and one deviation, as `pipeline.augment` does; with torchvision's three means the
padding would differ.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

import torch
from torch import nn

from manifests.errors import ConfigError
from trainer.models.timm_backbone import is_timm, timm_weights

IMAGENET = "imagenet"
IMAGENET_URLS = {"densenet121": "https://download.pytorch.org/models/densenet121-a639ec97.pth"}
"""Model -> the file that torchvision itself downloads; the end of its name begins its sha256, which is checked."""

STEM = "features.conv0.weight"
CLASSIFIER = ("classifier.weight", "classifier.bias")

# torchvision's file is older than its module: there the layers' parts are still called norm.1, relu.1, conv.1, ...
LEGACY_NAME = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")

logger = logging.getLogger(__name__)


def load_pretrained(model: nn.Module, name: str, source: str, *, input_size_px: int = 224) -> None:
    """Load weights into a model: everything but a classifier of another width, which keeps its initialisation.

    Args:
        model: a model of `trainer.models.registry`, changed in place.
        name: its name there.
        source: `imagenet` (of timm's networks: whatever timm has for them), or the path of a file that `torch.save`
            wrote: a state dict, or a dict with one under `model` or `state_dict`. Loaded with `weights_only`: a file
            cannot run code.
        input_size_px: side of the images, which some of timm's networks depend on.

    Raises:
        ConfigError: no such weights, no network, a broken file, or names and shapes that do not fit the model.
    """
    state: Mapping[str, torch.Tensor]
    if source != IMAGENET:
        state = _read(Path(source).expanduser())
    elif is_timm(name):
        state = timm_weights(name, int(model.num_classes), input_size_px=input_size_px)  # type: ignore[arg-type]
    else:
        state = _download(name)
    fitted = fit_state(state, model, source)
    model.load_state_dict(fitted)


def fit_state(state: Mapping[str, torch.Tensor], model: nn.Module, source: str) -> dict[str, torch.Tensor]:
    """Return a state dict that fits the model exactly: new names, one-channel stem, classifier of the model's width.

    Raises:
        ConfigError: names or shapes differ otherwise; the message lists them.
    """
    own = model.state_dict()
    fitted = {LEGACY_NAME.sub(r"\1\2", key): value for key, value in state.items()}
    if STEM in own and STEM in fitted and fitted[STEM].ndim == 4 and fitted[STEM].shape[1] == 3:
        fitted[STEM] = fitted[STEM].sum(dim=1, keepdim=True)

    width, model_width = (len(weights[CLASSIFIER[1]]) if CLASSIFIER[1] in weights else 0 for weights in (fitted, own))
    if width != model_width:
        fitted |= {key: own[key] for key in CLASSIFIER}

    # Counters of batches, which the oldest files lack and no forward pass reads.
    fitted = {key: value for key, value in own.items() if key.endswith("num_batches_tracked")} | fitted
    problems = [f"missing {key}" for key in own if key not in fitted]
    problems += [f"unknown {key}" for key in fitted if key not in own]
    problems += [
        f"{key} is {_shape(fitted[key])}, the model's {_shape(own[key])}"
        for key in own
        if key in fitted and fitted[key].shape != own[key].shape
    ]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise ConfigError(f"{source}: weights of another model: {shown}")
    if width != model_width:
        logger.warning(
            "%s: its classifier has %d outputs, the model %d: the classifier starts from its initialisation",
            source, width, model_width,
        )  # fmt: skip
    return fitted


def _download(name: str) -> Mapping[str, torch.Tensor]:
    """Return torchvision's ImageNet weights, from torch's cache or the network."""
    if name not in IMAGENET_URLS:
        raise ConfigError(
            f"model.name={name}: there are no ImageNet weights for it (there are for {', '.join(IMAGENET_URLS)})"
        )
    url = IMAGENET_URLS[name]
    try:
        state: Mapping[str, torch.Tensor] = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True
        )
    except (URLError, OSError, RuntimeError) as error:
        raise ConfigError(
            f"model.pretrained={IMAGENET}: {url} could not be had ({error}); fetch it on a machine with a network and "
            f"give its path instead: --set model.pretrained=PATH"
        ) from error
    return state


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    """Return the state dict in a file."""
    if not path.is_file():
        raise ConfigError(f"model.pretrained={path}: no such file; expected {IMAGENET}, or the path of a state dict")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:  # torch's own words advise to run whatever code is in the file
        raise ConfigError(f"model.pretrained={path}: not weights that torch.save wrote") from error
    except MemoryError:
        raise
    except Exception as error:  # torch.load meets a damaged file with struct.error, AssertionError, ...
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"model.pretrained={path}: not weights that torch.save wrote ({first_line})") from error
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        found = type(content).__name__
        raise ConfigError(f"model.pretrained={path}: expected a state dict (name -> tensor), found a {found}")
    return content


def _shape(tensor: torch.Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "scalar"
