"""How the networks of a step are called: as they are, compiled, or replayed from a CUDA graph."""

from typing import cast

import torch
from torch import nn

from trainer.config import StepConfig
from trainer.precision import Precision, autocast


def runner(
    module: nn.Module,
    config: StepConfig,
    *,
    shape: tuple[int, int, int, int],
    device: torch.device,
    precision: Precision,
) -> nn.Module:
    """Return what to call in the module's place in train mode; weights and statistics stay the module's own.

    Args:
        module: a network on its device.
        config: `compile`, `cuda_graph`.
        shape: (B, 1, h, w) of a full batch: what a graph is recorded for.
        device: the module's.
        precision: in which it will be called.
    """
    if config.compile:
        # One program a shape: those of a full batch and of the epoch's tail, instead of one for all, which is slower.
        mode = "reduce-overhead" if config.cuda_graph else None
        return cast("nn.Module", torch.compile(module, dynamic=False, mode=mode))
    if config.cuda_graph:
        with autocast(precision, device, keeps_casts=False):
            return _Replayed(module, torch.zeros(shape, device=device))
    return module


class _Replayed(nn.Module):
    """Replays forward and backward of one shape; other shapes (an epoch's tail) are computed as ever."""

    def __init__(self, module: nn.Module, images_B1hw: torch.Tensor) -> None:
        super().__init__()
        self.module = module
        self._shape = images_B1hw.shape
        # Warming up moves the running statistics, which are nobody's business yet.
        before = [buffer.clone() for buffer in module.buffers()]
        inner = _Called(module.train())
        replay = torch.cuda.make_graphed_callables(inner, (images_B1hw,), allow_unused_input=True)
        self._replay = cast("nn.Module", replay)
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)

    def forward(self, images_B1hw: torch.Tensor) -> torch.Tensor:
        """Return logits [B, C]."""
        run: nn.Module = self._replay if images_B1hw.shape == self._shape else self.module
        logits_BC: torch.Tensor = run(images_B1hw)
        return logits_BC


class _Called(nn.Module):
    """A module around another, whose own `forward` the graph may take the place of."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images_B1hw: torch.Tensor) -> torch.Tensor:
        logits_BC: torch.Tensor = self.module(images_B1hw)
        return logits_BC
