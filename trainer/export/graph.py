"""A model with its preprocessing as one graph: packed pixels in, probabilities out, in float32.

Shapes: B images of H x W packed pixels, h x w after resampling, C outputs.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from trainer.export.image_model import ImageModel
from trainer.models.registry import build_model


class ImagesToProbs(nn.Module):
    """uint8 [B, 1, H, W] -> float32 [B, C].

    Without augmentation the resample of `pipeline.prepare` goes along rows and columns one after the other, so here it
    is two products with constant matrices: what every format of graphs can say.
    """

    rows_hH: torch.Tensor
    columns_wW: torch.Tensor

    def __init__(self, module: nn.Module, *, height_px: int, width_px: int, out_size_px: int, mean: float, std: float):
        super().__init__()
        self.module = module
        self.scale, self.bias = 1 / (255 * std), -mean / std
        self.is_resampled = (height_px, width_px) != (out_size_px, out_size_px)
        self.register_buffer("rows_hH", torch.from_numpy(resample_weights(height_px, out_size_px)))
        self.register_buffer("columns_wW", torch.from_numpy(resample_weights(width_px, out_size_px)))

    def forward(self, images_B1HW: torch.Tensor) -> torch.Tensor:
        """Return probabilities, float32 [B, C]."""
        gray_B1hw = images_B1HW.to(torch.float32)
        if self.is_resampled:
            gray_B1hw = self.rows_hH @ gray_B1hw @ self.columns_wW.T
        logits_BC: torch.Tensor = self.module(gray_B1hw * self.scale + self.bias)
        return logits_BC.sigmoid()


def graph_of(model: ImageModel) -> ImagesToProbs:
    """Return the graph of a model, on the CPU, its weights laid out plainly."""
    about = model.description
    module = build_model(about.model, len(about.findings), input_size_px=about.input_size_px, channels_last=False)
    module.load_state_dict(model.module.state_dict())
    spec = about.preprocessing.spec
    return ImagesToProbs(
        module,
        height_px=spec.height_px,
        width_px=spec.width_px,
        out_size_px=about.input_size_px,
        mean=about.preprocessing.mean,
        std=about.preprocessing.std,
    ).eval()


def resample_weights(size_px: int, out_size_px: int) -> npt.NDArray[np.float32]:
    """Return float32 [out_size_px, size_px]: how much of each pixel is in each output, along one axis.

    Bilinear, between pixel centres; beyond the outermost ones the image fades into black, as in `pipeline.prepare`.
    """
    place_o = (np.arange(out_size_px) + 0.5) * size_px / out_size_px - 0.5
    distance_oi = np.abs(place_o[:, None] - np.arange(size_px))
    return np.asarray(np.maximum(0, 1 - distance_oi), np.float32)
