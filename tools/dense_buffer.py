"""DenseNet-121 without concatenation: every block writes into one buffer. A contender of the benchmark, not a model.

Pleiss et al., "Memory-Efficient Implementation of DenseNets", arXiv 1707.06990, share a buffer in this way. A layer
reads the first channels of its block's buffer and writes the next ones; in the backward pass gradients are added up in
one buffer too, instead of in a new one a layer. The first channels of a wider buffer do not lie densely, though, and
BatchNorm and convolutions want them dense: the copy that concatenation made comes back through the back door.
"""

from typing import Any

import torch
from torch import nn

from trainer.models.densenet import GROWTH, DenseBlock, DenseNet121


def with_buffers(model: DenseNet121) -> DenseNet121:
    """Let every dense block of a model compute in a buffer; names and weights stay."""
    for block in model.features.children():
        if isinstance(block, DenseBlock):
            block.forward = _Buffered(block)  # type: ignore[method-assign]
    return model


class _Buffered:
    def __init__(self, block: DenseBlock) -> None:
        self._layers = list(block.children())

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        params = [param for layer in self._layers for param in layer.parameters()]
        grown: torch.Tensor = _InOneBuffer.apply(self._layers, features, *params)  # type: ignore[no-untyped-call]
        return grown


class _InOneBuffer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layers: list[nn.Module], features: torch.Tensor, *params: nn.Parameter) -> torch.Tensor:
        num_images, num_channels, height, width = features.shape
        shape = (num_images, num_channels + GROWTH * len(layers), height, width)
        layout = torch.channels_last
        buffer = torch.empty(shape, dtype=features.dtype, device=features.device, memory_format=layout)
        buffer[:, :num_channels] = features
        ctx.layers, ctx.num_channels, ctx.graphs = layers, num_channels, []
        for number, layer in enumerate(layers):
            end = num_channels + number * GROWTH
            read = buffer[:, :end].contiguous(memory_format=layout).requires_grad_()
            with torch.enable_grad():
                grown = layer(read)
            buffer[:, end : end + GROWTH] = grown.detach()
            ctx.graphs.append((read, grown))
        return buffer

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        buffer = grads[0].clone(memory_format=torch.channels_last)
        of_params: list[torch.Tensor] = []
        end = buffer.shape[1]
        for layer, (read, grown) in zip(reversed(ctx.layers), reversed(ctx.graphs), strict=True):
            end -= GROWTH
            of_read, *own = torch.autograd.grad(
                grown, (read, *layer.parameters()), buffer[:, end : end + GROWTH].contiguous()
            )
            buffer[:, :end] += of_read
            of_params = own + of_params
        return None, buffer[:, : ctx.num_channels], *of_params
