"""The NVUM step on a GPU: the same numbers as on the CPU, and never a wait for the device."""

from collections.abc import Iterator

import pytest
import torch

from trainer.losses import LossParts
from trainer.memory import NVUMMemory
from trainer.nvum import NVUMConfig, Regulariser, log_prior, nvum_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here"),
]


@pytest.fixture
def waiting_is_an_error() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


def three_steps(device: str, form: Regulariser, *, watched: bool = False) -> tuple[LossParts, torch.Tensor, NVUMMemory]:
    draw = torch.Generator().manual_seed(0)
    logits_BC = (3 * torch.randn(64, 14, generator=draw)).to(device).requires_grad_()
    teacher_BC = (3 * torch.randn(64, 14, generator=draw)).to(device)
    targets_BC = (torch.rand(64, 14, generator=draw) < 0.2).float().to(device)
    mask_BC = (torch.rand(64, 14, generator=draw) < 0.9).to(device)
    index_B = torch.randperm(1000, generator=draw)[:64]
    index_B[::9] = -1
    index_B = index_B.to(device)
    perm_B = torch.randperm(64, generator=draw).to(device)
    log_prior_C = log_prior(torch.rand(14, generator=draw)).to(device)
    memory = NVUMMemory(1000, 14, device)
    if watched:
        torch.cuda.set_sync_debug_mode("error")
    for _ in range(3):
        parts = nvum_step(
            logits_BC, teacher_BC, targets_BC, mask_BC, index_B, memory=memory, log_prior_C=log_prior_C,
            perm_B=perm_B, lam=0.7, config=NVUMConfig(regulariser=form), num_global=56,
        )  # fmt: skip
        (grad_BC,) = torch.autograd.grad(parts.loss, logits_BC)
        memory.end_epoch()
    return parts, grad_BC, memory


@pytest.mark.usefixtures("waiting_is_an_error")
@pytest.mark.parametrize("form", ["elementwise", "inner_product"])
def test_step_waits_for_nothing_and_equals_the_cpu(form: Regulariser) -> None:
    parts, grad_BC, memory = three_steps("cuda", form, watched=True)
    torch.cuda.set_sync_debug_mode("default")
    expected, expected_grad_BC, expected_memory = three_steps("cpu", form)
    torch.testing.assert_close(parts.loss.cpu(), expected.loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grad_BC.cpu(), expected_grad_BC, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(memory.previous_NC.cpu(), expected_memory.previous_NC, rtol=1e-6, atol=1e-6)
    assert int(parts.num_rows_skipped) == int(expected.num_rows_skipped)
