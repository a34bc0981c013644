"""A small residual network that a CPU trains."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import relu

from trainer.models.recompute import computed_again

WIDTHS = (16, 32, 64, 128)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the first may halve height and width."""

    def __init__(self, num_in: int, num_out: int, stride: int, *, recompute: bool = False) -> None:
        super().__init__()
        self.recompute = recompute
        self.conv1 = nn.Conv2d(num_in, num_out, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(num_out)
        self.conv2 = nn.Conv2d(num_out, num_out, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(num_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or num_in != num_out:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True),
                nn.Conv2d(num_in, num_out, kernel_size=1, bias=False),
                nn.BatchNorm2d(num_out),
            )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return [B, num_out, H // stride, W // stride]."""
        return computed_again(self._computed, [self], features) if self.recompute else self._computed(features)

    def _computed(self, features: torch.Tensor) -> torch.Tensor:
        out = relu(self.norm1(self.conv1(features)), inplace=True)
        return relu(self.norm2(self.conv2(out)) + self.shortcut(features), inplace=True)


class SmallNet(nn.Module):
    """Logits [B, num_outputs] from images [B, 1, H, W], H and W at least 32."""

    def __init__(self, num_outputs: int, *, recompute: bool = False) -> None:
        """Initialise the weights.

        Args:
            num_outputs: width of the classifier.
            recompute: whether the backward pass computes what is inside a block again.
        """
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, WIDTHS[0], kernel_size=5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(WIDTHS[0]),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(a, b, stride=2, recompute=recompute) for a, b in pairwise(WIDTHS)))
        self.classifier = nn.Linear(2 * WIDTHS[-1], num_outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images_B1HW: torch.Tensor) -> torch.Tensor:
        """Return logits [B, num_outputs] of normalised images [B, 1, H, W]."""
        features = self.blocks(self.stem(images_B1HW))
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        logits_BC: torch.Tensor = self.classifier(pooled)
        return logits_BC
