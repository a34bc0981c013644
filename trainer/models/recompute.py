"""Activation checkpointing: features that the backward pass computes again instead of keeping them.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174; for DenseNet Pleiss et al.,
"Memory-Efficient Implementation of DenseNets", arXiv 1707.06990.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def computed_again(
    function: Callable[..., torch.Tensor], norms: list[nn.Module], *features: torch.Tensor
) -> torch.Tensor:
    """Return `function(*features)`, whose inner features are computed again for the backward pass.

    Args:
        function: draws no random number.
        norms: modules with the BatchNorm layers that it uses: their running statistics move once, not twice.
        features: what it is computed from, which is kept.
    """
    if not torch.is_grad_enabled():
        return function(*features)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _still_statistics(norms)

    result: torch.Tensor = checkpoint(
        function, *features, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
    )
    return result


@contextmanager
def _still_statistics(norms: list[nn.Module]) -> Iterator[None]:
    """Let BatchNorm layers move copies of their running statistics, which are thrown away."""
    layers = [layer for module in norms for layer in module.modules() if isinstance(layer, _BatchNorm)]
    kept = [dict(layer.named_buffers()) for layer in layers]
    for layer, buffers in zip(layers, kept, strict=True):
        for name, value in buffers.items():
            setattr(layer, name, value.clone())
    try:
        yield
    finally:
        for layer, buffers in zip(layers, kept, strict=True):
            for name, value in buffers.items():
                setattr(layer, name, value)
