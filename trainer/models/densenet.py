"""DenseNet-121 with one input channel.

Huang et al., "Densely Connected Convolutional Networks", CVPR 2017. The names in the state dict are torchvision's, so
that its ImageNet weights load (see `trainer.models.weights`).
"""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, relu

from trainer.models.recompute import computed_again

GROWTH = 32
BLOCKS = (6, 12, 24, 16)
STEM_CHANNELS = 64
BOTTLENECK = 4


class DenseLayer(nn.Module):
    """BN-ReLU-conv 1x1, BN-ReLU-conv 3x3: from all features so far to `GROWTH` new ones."""

    def __init__(self, num_channels: int, *, recompute: bool = False) -> None:
        super().__init__()
        self.recompute = recompute
        width = BOTTLENECK * GROWTH
        self.norm1 = nn.BatchNorm2d(num_channels)
        self.conv1 = nn.Conv2d(num_channels, width, kernel_size=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, GROWTH, kernel_size=3, padding=1, bias=False)

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        """Return [B, GROWTH, H, W] from features [B, ?, H, W] that have `num_channels` channels together."""
        if self.recompute:  # their concatenation is what grows with the square of the depth: it is not kept
            bottleneck = computed_again(self._bottleneck, [self.norm1], *parts)
        else:
            bottleneck = self._bottleneck(*parts)
        grown: torch.Tensor = self.conv2(relu(self.norm2(bottleneck), inplace=True))
        return grown

    def _bottleneck(self, *parts: torch.Tensor) -> torch.Tensor:
        bottleneck: torch.Tensor = self.conv1(relu(self.norm1(torch.cat(parts, dim=1)), inplace=True))
        return bottleneck


class DenseBlock(nn.Module):
    """Layers, each of which sees the block's input and what all layers before it put out."""

    def __init__(self, num_layers: int, num_channels: int, *, recompute: bool = False) -> None:
        super().__init__()
        for layer in range(num_layers):
            self.add_module(f"denselayer{layer + 1}", DenseLayer(num_channels + layer * GROWTH, recompute=recompute))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the input and all new features, concatenated along the channels."""
        parts = [features]
        for layer in self.children():
            parts.append(layer(*parts))
        return torch.cat(parts, dim=1)


class Transition(nn.Module):
    """Half the channels, half the height and width."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(num_channels)
        self.conv = nn.Conv2d(num_channels, num_channels // 2, kernel_size=1, bias=False)
        self.pool = nn.AvgPool2d(kernel_size=2, stride=2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return [B, C // 2, H // 2, W // 2] from [B, C, H, W]."""
        halved: torch.Tensor = self.pool(self.conv(relu(self.norm(features), inplace=True)))
        return halved


class DenseNet121(nn.Module):
    """Logits [B, num_outputs] from images [B, 1, H, W], H and W at least 32."""

    def __init__(self, num_outputs: int, *, recompute: bool = False) -> None:
        """Initialise the weights.

        Args:
            num_outputs: width of the classifier.
            recompute: whether the backward pass computes concatenated features and bottlenecks again.
        """
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv0=nn.Conv2d(1, STEM_CHANNELS, kernel_size=7, stride=2, padding=3, bias=False),
            norm0=nn.BatchNorm2d(STEM_CHANNELS),
            relu0=nn.ReLU(inplace=True),
            pool0=nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        )
        num_channels = STEM_CHANNELS
        for block, num_layers in enumerate(BLOCKS, start=1):
            layers[f"denseblock{block}"] = DenseBlock(num_layers, num_channels, recompute=recompute)
            num_channels += num_layers * GROWTH
            if block < len(BLOCKS):
                layers[f"transition{block}"] = Transition(num_channels)
                num_channels //= 2
        layers["norm5"] = nn.BatchNorm2d(num_channels)
        self.features = nn.Sequential(layers)
        self.classifier = nn.Linear(num_channels, num_outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images_B1HW: torch.Tensor) -> torch.Tensor:
        """Return logits [B, num_outputs] of normalised images [B, 1, H, W]."""
        features = relu(self.features(images_B1HW), inplace=True)
        logits_BC: torch.Tensor = self.classifier(adaptive_avg_pool2d(features, 1).flatten(1))
        return logits_BC
