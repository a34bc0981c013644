"""Inputs of an NVUM step for tests: random ones, and a way to run any implementation on them."""

import os
from dataclasses import dataclass, replace

import pytest
import torch

from trainer.losses import LossParts
from trainer.memory import NVUMMemory
from trainer.nvum import Implementation, NVUMConfig, Regulariser, log_prior, nvum_step

FORMS: tuple[Regulariser, ...] = ("elementwise", "inner_product")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether kernels run in Triton's interpreter, on tensors of the CPU: tests/conftest.py decides."""

runs_in_the_interpreter = pytest.mark.skipif(
    not INTERPRETED, reason="kernels are compiled for the GPU here; TRITON_INTERPRET=1 runs them in the interpreter"
)
runs_on_a_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason="there is no NVIDIA GPU here"),
]


@dataclass
class Step:
    """Inputs of one step; N rows of memory of which the batch visits B."""

    logits_BC: torch.Tensor
    teacher_BC: torch.Tensor
    targets_BC: torch.Tensor
    mask_BC: torch.Tensor
    index_B: torch.Tensor
    memory_NC: torch.Tensor
    prior_C: torch.Tensor
    perm_B: torch.Tensor | None
    lam: float | torch.Tensor
    implementation: Implementation = "auto"

    def to(self, device: str) -> "Step":
        """Return the same on another device."""
        moved = replace(self)
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor):
                setattr(moved, name, value.to(device))
        return moved

    def memory(self) -> NVUMMemory:
        rows_NC = self.memory_NC
        memory = NVUMMemory(len(rows_NC), rows_NC.shape[1], rows_NC.device, rows_NC.dtype)
        memory.previous_NC.copy_(self.memory_NC)
        return memory

    def run(
        self, config: NVUMConfig, memory: NVUMMemory | None = None, num_global: int | None = None
    ) -> tuple[LossParts, torch.Tensor, NVUMMemory]:
        """Return the loss, its gradient [B, C] and the memory after it (the epoch still open)."""
        memory = memory if memory is not None else self.memory()
        logits_BC = self.logits_BC.clone().requires_grad_()
        parts = nvum_step(
            logits_BC,
            self.teacher_BC,
            self.targets_BC,
            self.mask_BC,
            self.index_B,
            memory=memory,
            log_prior_C=log_prior(self.prior_C),
            perm_B=self.perm_B,
            lam=self.lam,
            config=config,
            num_global=num_global if num_global is not None else int((self.index_B >= 0).sum()),
            implementation=self.implementation,
        )
        parts.loss.backward()  # type: ignore[no-untyped-call]
        assert logits_BC.grad is not None
        return parts, logits_BC.grad, memory


def random_step(
    seed: int,
    *,
    batch: int = 6,
    outputs: int = 4,
    rows: int = 12,
    dtype: torch.dtype = torch.float64,
    spread: float = 2.0,
) -> Step:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return spread * torch.randn(*shape, generator=draw, dtype=dtype)

    return Step(
        logits_BC=normal(batch, outputs),
        teacher_BC=normal(batch, outputs),
        targets_BC=(torch.rand(batch, outputs, generator=draw) < 0.3).to(dtype),
        mask_BC=torch.rand(batch, outputs, generator=draw) < 0.8,
        index_B=torch.randperm(rows, generator=draw)[:batch],
        memory_NC=normal(rows, outputs),
        prior_C=torch.rand(outputs, generator=draw, dtype=dtype) * 0.6 + 0.001,
        perm_B=torch.randperm(batch, generator=draw),
        lam=0.5 + 0.5 * float(torch.rand((), generator=draw)),
    )


def after_epoch(memory: NVUMMemory) -> torch.Tensor:
    """Return the rows that the next epoch reads."""
    memory.end_epoch()
    return memory.previous_NC.clone()
