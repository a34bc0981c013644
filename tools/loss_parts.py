"""The loss step of NVUM in every way of computing it, beside the way of the authors' public code.

The authors' step, as their code does it and written anew here: the batch's indices as a Python list, four gathers with
it, memory changed in place, mean losses read with `.item()` for the progress bar and the log. Ours has no list and
reads nothing; its mask, its skipped rows and its second buffer come on top.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from tools.interleaved import Part
from trainer.losses import bce_loss
from trainer.memory import NVUMMemory
from trainer.nvum import Implementation, NVUMConfig, log_prior, nvum_step

NUM_OUTPUTS = 14
NUM_ROWS = 112_120
LAM = 0.7


class LossBatch(NamedTuple):
    """A batch for the loss, and the rows that it has in the memory."""

    logits_BC: torch.Tensor
    """Require a gradient."""

    teacher_BC: torch.Tensor
    """To be remembered."""

    targets_BC: torch.Tensor
    """0 or 1."""

    mask_BC: torch.Tensor
    """All true, as in NIH ChestX-ray14."""

    index_B: torch.Tensor
    """Scattered over the memory."""

    perm_B: torch.Tensor
    """Mixup partners."""

    prior_C: torch.Tensor
    """Of each output."""


def make_batch(batch_size: int, device: str, dtype: torch.dtype = torch.float32) -> LossBatch:
    """Return a random batch."""
    return LossBatch(
        logits_BC=torch.randn(batch_size, NUM_OUTPUTS, device=device, dtype=dtype).requires_grad_(),
        teacher_BC=torch.randn(batch_size, NUM_OUTPUTS, device=device, dtype=dtype),
        targets_BC=(torch.rand(batch_size, NUM_OUTPUTS, device=device) < 0.1).float(),
        mask_BC=torch.ones(batch_size, NUM_OUTPUTS, dtype=torch.bool, device=device),
        index_B=torch.randperm(NUM_ROWS, device=device)[:batch_size],
        perm_B=torch.randperm(batch_size, device=device),
        prior_C=torch.full((NUM_OUTPUTS,), 0.05, device=device),
    )


def bytes_of_a_step(batch: LossBatch) -> int:
    """Return what one forward step has to read and write at least: each input once, the partner's rows too."""
    entries, rows = batch.logits_BC.numel(), len(batch.index_B)
    read = entries * (batch.logits_BC.element_size() + batch.targets_BC.element_size() + batch.mask_BC.element_size())
    read += 2 * entries * batch.teacher_BC.element_size() + rows * (2 * 8 + 8)  # own and partner's index, permutation
    memory = 3 * 4 * entries + rows  # old rows, own and partner's; the new row; its mark
    return read + memory + 4 * entries  # the gradient


def loss_parts(device: str = "cpu", *, compiles: bool = False) -> list[Part]:
    """Return forward and backward of the loss in every way, and of the fast ones the forward alone.

    A sum of the logits, differentiated, shows what a backward pass costs that has nothing to compute.

    Args:
        device: `cpu` or `cuda`.
        compiles: whether `torch.compile` of the plain step takes part; it takes half a minute to compile.
    """
    parts = []
    for batch_size in (64, 1024):
        batch = make_batch(batch_size, device)
        num_bytes = bytes_of_a_step(batch)
        end = f"batch {batch_size}" + ("" if device == "cpu" else f", {device}")
        authors = f"the authors' way, {end}"
        parts += [
            Part(authors, authors, batch_size, "samples", backwards(batch, authors_way(batch)), num_bytes),
            Part(f"sum of the logits, {end}", authors, batch_size, "samples", backwards(batch, batch.logits_BC.sum)),
            Part(f"bce_loss, {end}", authors, batch_size, "samples", backwards(batch, cross_entropy(batch))),
        ]
        ways: list[Implementation] = ["plain", "analytic", "native" if device == "cpu" else "triton"]
        for way in ways:
            step = our_way(batch, way)
            what = f"nvum_step, {way}, {end}"
            parts.append(Part(what, authors, batch_size, "samples", backwards(batch, step), num_bytes))
            if device == "cuda" or way == "native":
                parts.append(Part(f"{what}, forward", authors, batch_size, "samples", step, num_bytes))
        if compiles:
            compiled = torch.compile(our_way(batch, "plain"), fullgraph=True)
            what = f"nvum_step, plain compiled, {end}"
            parts.append(Part(what, authors, batch_size, "samples", backwards(batch, compiled), num_bytes))
    return parts


def backwards(batch: LossBatch, forward: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """Return a function that runs `forward` and differentiates its loss."""

    def call() -> None:
        batch.logits_BC.grad = None
        forward().backward()  # type: ignore[no-untyped-call]

    return call


def our_way(batch: LossBatch, implementation: Implementation) -> Callable[[], torch.Tensor]:
    """Return our step in one of its implementations."""
    memory = NVUMMemory(NUM_ROWS, NUM_OUTPUTS, batch.logits_BC.device)
    log_prior_C, config = log_prior(batch.prior_C), NVUMConfig()
    lam = torch.tensor(LAM, device=batch.logits_BC.device) if batch.logits_BC.is_cuda else LAM

    def forward() -> torch.Tensor:
        return nvum_step(
            batch.logits_BC,
            batch.teacher_BC,
            batch.targets_BC,
            batch.mask_BC,
            batch.index_B,
            memory=memory,
            log_prior_C=log_prior_C,
            perm_B=batch.perm_B,
            lam=lam,
            config=config,
            num_global=len(batch.index_B),
            implementation=implementation,
        ).loss

    return forward


def cross_entropy(batch: LossBatch) -> Callable[[], torch.Tensor]:
    """Return the loss that has no memory."""

    def forward() -> torch.Tensor:
        num_global = len(batch.index_B)
        return bce_loss(batch.logits_BC, batch.targets_BC, batch.mask_BC, batch.index_B, num_global=num_global).loss

    return forward


def authors_way(batch: LossBatch) -> Callable[[], torch.Tensor]:
    """Return the step in the manner of the authors' code."""
    memory_NC = torch.zeros(NUM_ROWS, NUM_OUTPUTS, device=batch.logits_BC.device)
    item = batch.index_B.cpu()  # their loader hands the indices out on the host

    def forward() -> torch.Tensor:
        index = item.numpy().tolist()
        adjusted_BC = (batch.teacher_BC - (batch.prior_C.unsqueeze(0) + 1e-12).log()).float()
        memory_NC[index] = 0.9 * memory_NC[index] + (1 - 0.9) * adjusted_BC
        q_BC = LAM * memory_NC[index] + (1 - LAM) * memory_NC[index][batch.perm_B]
        probs_BC = torch.clamp(torch.sigmoid(batch.logits_BC), 1e-4, 1 - 1e-4)
        bce_BC = binary_cross_entropy_with_logits(batch.logits_BC, batch.targets_BC, reduction="none")
        reg_BC = (1 - torch.sigmoid(q_BC * probs_BC)).log()
        loss = (bce_BC + reg_BC).mean()
        for value in (loss, loss, bce_BC.mean(), bce_BC.mean(), reg_BC.mean(), reg_BC.mean()):
            value.item()
        return loss

    return forward
