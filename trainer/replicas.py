"""What every rank has a copy of, and how the copies stay one: gradients while training, running statistics when read.

Weights need nothing: they begin equal and move by equal gradients. The memory's rows: see `trainer.memory_merge`.
"""

import inspect
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from trainer.distributed import Ranks


class _Student(nn.Module):
    """A student that also takes no images at all: its gradients are then zeros and take part in the sum over ranks."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, images_B1hw: torch.Tensor | None) -> torch.Tensor:
        """Return logits [B, C]; without images a zero that every parameter takes part in."""
        if images_B1hw is None:
            return torch.stack([(0 * parameter).sum() for parameter in self.parameters()]).sum()
        logits_BC: torch.Tensor = self.student(images_B1hw)
        return logits_BC


def data_parallel(student: nn.Module, ranks: Ranks, device: torch.device) -> nn.Module:
    """Return a module to call in the student's place, whose backward *averages* gradients over ranks.

    Called without images (None) it gives a zero to go backward from: what a rank does that has no sample in a step. The
    student stays what it is: optimiser, teacher and checkpoints go on with it. Buffers are nobody's to broadcast:
    running statistics are averaged when they are read (`trainer.replicas`).
    """
    if ranks.is_alone:
        return student
    no_buffers = "forward_sync_buffers"  # its name since torch 2.13
    if no_buffers not in inspect.signature(nn.parallel.DistributedDataParallel.__init__).parameters:
        no_buffers = "broadcast_buffers"
    options: dict[str, Any] = {no_buffers: False}
    # Of a filter with a single input channel two ways to name the same strides differ, which costs nothing.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    statistics = [buffer.clone() for buffer in student.buffers()]  # a resumed rank's own; DDP begins with rank 0's
    wrapped = nn.parallel.DistributedDataParallel(
        _Student(student),
        device_ids=[device] if device.type == "cuda" else None,
        process_group=ranks.data,
        gradient_as_bucket_view=True,
        **options,
    )
    for buffer, own in zip(student.buffers(), statistics, strict=True):
        buffer.copy_(own)
    # DDP cuts its buckets anew after its first backward, by the order in which gradients came. Three ranks or more add
    # up in an order that depends on the buckets, so a resumed run has the bits of an undisturbed one only if both do
    # this before their first step.
    wrapped(None).backward()
    student.zero_grad(set_to_none=True)
    return wrapped


def synchronise_batchnorm_(module: nn.Module, ranks: Ranks) -> None:
    """Let the BatchNorm layers within a module normalise by the batches of all ranks; weights and names stay."""
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(module, ranks.data)  # type: ignore[no-untyped-call]
    assert converted is module, "a module that is a BatchNorm layer itself"


@torch.no_grad()
def mean_statistics(modules: Sequence[nn.Module], ranks: Ranks) -> list[dict[str, torch.Tensor]]:
    """Return for each module its floating buffers (BatchNorm's running statistics) averaged over ranks, by name.

    Each rank's statistics are those of its own share of the batches. Summed in float64, so that the mean of equal
    numbers is that number to the bit, and averaging twice is averaging once. The modules stay as they are.
    """
    named = [{name: value for name, value in module.named_buffers() if value.is_floating_point()} for module in modules]
    buffers = [value for values in named for value in values.values()]
    if ranks.is_alone or not buffers:
        return named
    sums = ranks.sum_(torch.cat([value.double().flatten() for value in buffers])) / ranks.world_size
    means = iter(torch.split(sums, [value.numel() for value in buffers]))
    return [{name: next(means).view_as(value).to(value.dtype) for name, value in values.items()} for values in named]


@torch.no_grad()
def average_statistics_(modules: Sequence[nn.Module], ranks: Ranks) -> None:
    """Give every rank the mean of all ranks' running statistics, in place; alone it changes nothing."""
    if ranks.is_alone:
        return
    for module, means in zip(modules, mean_statistics(modules, ranks), strict=True):
        for name, value in module.named_buffers():
            if name in means:
                value.copy_(means[name])
