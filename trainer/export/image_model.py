"""A trained model as something that takes packed pixels and gives probabilities.

Shapes: B images of H x W packed pixels, C outputs.
"""

from dataclasses import dataclass

import torch
from torch import nn

from pipeline.prepare import prepare_images
from trainer.export.description import ModelDescription
from trainer.precision import autocast, resolve_precision


@dataclass(frozen=True, kw_only=True)
class ImageModel:
    """A network with all that is needed to ask it."""

    module: nn.Module
    """In evaluation mode on `device`: float32 [B, 1, h, w], normalised, -> logits [B, C]."""

    description: ModelDescription
    """What it is."""

    device: torch.device
    """Where it lies."""

    def probs(self, images_B1HW: torch.Tensor) -> torch.Tensor:
        """Return float32 [B, C], the probabilities of `description.findings`; the bits of `cxr-train evaluate`.

        Args:
            images_B1HW: uint8, of the size of `description.preprocessing.spec`, on any device.
        """
        about = self.description
        images_B1hw = prepare_images(
            images_B1HW.to(self.device),
            None,
            about.input_size_px,
            mean=about.preprocessing.mean,
            std=about.preprocessing.std,
        )
        with torch.inference_mode(), autocast(resolve_precision(about.precision, self.device), self.device):
            logits_BC = self.module(images_B1hw)
        return torch.sigmoid(logits_BC.float())
