"""The NVUM step on a GPU: the same numbers as on the CPU, one launch, and never a wait for the device."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from tests.trainer.nvum_inputs import Step, after_epoch, random_step
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


def run_kernel(step: Step, memory: NVUMMemory, logits_BC: torch.Tensor, lam: torch.Tensor) -> LossParts:
    return nvum_step(
        logits_BC, step.teacher_BC, step.targets_BC, step.mask_BC, step.index_B, memory=memory,
        log_prior_C=log_prior(step.prior_C), perm_B=step.perm_B, lam=lam, config=NVUMConfig(),
        num_global=len(step.index_B), implementation="triton",
    )  # fmt: skip


def test_forward_is_one_launch() -> None:
    step = random_step(0, batch=1024, outputs=14, rows=5000, dtype=torch.float32).to("cuda")
    memory, lam = step.memory(), torch.tensor(0.7, device="cuda")
    logits_BC, log_prior_C = step.logits_BC.requires_grad_(), log_prior(step.prior_C)

    def forward() -> None:
        nvum_step(
            logits_BC, step.teacher_BC, step.targets_BC, step.mask_BC, step.index_B, memory=memory,
            log_prior_C=log_prior_C, perm_B=step.perm_B, lam=lam, config=NVUMConfig(), num_global=1024,
        )  # fmt: skip

    forward()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        forward()
        torch.cuda.synchronize()
    launched = [event.name for event in profile.events() if event.device_type.name == "CUDA"]
    assert launched == ["nvum_kernel"]


def test_sums_are_the_same_bits_each_time() -> None:
    step = random_step(1, batch=4096, outputs=14, rows=5000, dtype=torch.float32).to("cuda")
    memory, lam = step.memory(), torch.tensor(0.7, device="cuda")
    first = run_kernel(step, memory, step.logits_BC, lam)
    for _ in range(200):
        again = run_kernel(step, memory, step.logits_BC, lam)
        assert torch.equal(torch.stack(first[:3]), torch.stack(again[:3]))
    assert int(memory.arrivals) == 0


def test_a_cuda_graph_replays_the_step_with_another_lam_and_another_batch() -> None:
    first, second = (
        random_step(seed, batch=64, outputs=14, rows=100, dtype=torch.float32).to("cuda") for seed in (2, 3)
    )
    second.memory_NC = first.memory_NC
    second.prior_C = first.prior_C
    memory, lam = first.memory(), torch.tensor(0.7, device="cuda")
    logits_BC = first.logits_BC.clone().requires_grad_()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.autograd.grad(run_kernel(first, memory, logits_BC, lam).loss, logits_BC)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        parts = run_kernel(first, memory, logits_BC, lam)
        (grad_BC,) = torch.autograd.grad(parts.loss, logits_BC)

    memory.touched_N.zero_()
    with torch.no_grad():
        logits_BC.copy_(second.logits_BC)
    for name in ("teacher_BC", "targets_BC", "mask_BC", "index_B", "perm_B"):
        getattr(first, name).copy_(getattr(second, name))
    lam.fill_(0.55)
    graph.replay()
    expected, expected_grad_BC, expected_memory = replace(second, lam=0.55, implementation="plain").run(
        NVUMConfig(), num_global=64
    )
    torch.testing.assert_close(parts.loss, expected.loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grad_BC, expected_grad_BC, rtol=1e-5, atol=1e-7)
    assert torch.equal(memory.touched_N, expected_memory.touched_N)
    torch.testing.assert_close(after_epoch(memory), after_epoch(expected_memory), rtol=1e-6, atol=1e-6)


def test_rows_behind_two_billion_entries_are_reached() -> None:
    num_outputs = 64
    num_rows = 2**31 // num_outputs + 1000
    needed = 2 * 4 * num_rows * num_outputs
    if torch.cuda.mem_get_info()[0] < 1.2 * needed:
        pytest.skip(f"the memory of this test takes {needed / 2**30:.0f} GiB")
    step = replace(random_step(4, batch=40, outputs=num_outputs, rows=50, dtype=torch.float32), implementation="triton")
    small, _, small_memory = step.to("cuda").run(NVUMConfig())
    memory = NVUMMemory(num_rows, num_outputs, "cuda")
    memory.previous_NC[-50:] = step.memory_NC.cuda()
    far = replace(step, index_B=step.index_B + num_rows - 50).to("cuda")
    large, _, memory = far.run(NVUMConfig(), memory=memory)
    assert torch.equal(small.loss, large.loss)
    assert torch.equal(small_memory.current_NC, memory.current_NC[-50:])
    assert int(memory.touched_N[:-50].sum()) == 0
