"""Each way of computing the NVUM step beside the plain one, which is held by golden values."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from tests.trainer.nvum_inputs import FORMS, Step, after_epoch, random_step, runs_in_the_interpreter, runs_on_a_gpu
from trainer import nvum_triton
from trainer.memory import NVUMMemory
from trainer.nvum import Implementation, NVUMConfig, Regulariser, log_prior, nvum_step

# NumPy, with which the interpreter computes, warns of inf - inf; a GPU does not.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")

OF_ANY_TYPE = [
    ("analytic", "cpu"),
    pytest.param("triton", "cpu", marks=runs_in_the_interpreter),
    pytest.param("analytic", "cuda", marks=runs_on_a_gpu),
    pytest.param("triton", "cuda", marks=runs_on_a_gpu),
]
each_implementation = pytest.mark.parametrize(("implementation", "device"), [*OF_ANY_TYPE, ("native", "cpu")])
each_that_takes_any_layout_and_half_precision = pytest.mark.parametrize(("implementation", "device"), OF_ANY_TYPE)


def assert_equals_plain(step: Step, config: NVUMConfig, *, rtol: float = 1e-5) -> None:
    """Compare loss, gradient, memory and counts of `step.implementation` with the plain step's on the same device."""
    parts, grad_BC, memory = step.run(config)
    expected, expected_grad_BC, expected_memory = replace(step, implementation="plain").run(config)
    rounding = inner_product_rounding(expected_memory) if config.regulariser == "inner_product" else 0.0
    atol = 1e-6 + (config.reg_weight + 1) * rounding
    for name in ("loss", "bce", "reg"):
        torch.testing.assert_close(getattr(parts, name), getattr(expected, name), rtol=rtol, atol=atol, equal_nan=True)
    scale = float(expected_grad_BC.float().abs().nan_to_num(0, 0, 0).max()) if expected_grad_BC.numel() else 0.0
    assert grad_BC.dtype == expected_grad_BC.dtype
    half = 0.0 if grad_BC.dtype == torch.float32 else 2 * torch.finfo(grad_BC.dtype).eps
    atol = (2e-6 + rounding) * scale
    torch.testing.assert_close(grad_BC, expected_grad_BC, rtol=rtol + half, atol=atol, equal_nan=True)
    assert int(parts.num_rows_skipped) == int(expected.num_rows_skipped)
    assert int(parts.num_rows_nonfinite) == int(expected.num_rows_nonfinite)
    assert torch.equal(memory.touched_N, expected_memory.touched_N)
    torch.testing.assert_close(after_epoch(memory), after_epoch(expected_memory), rtol=1e-6, atol=1e-6)
    assert int(memory.arrivals) == 0


def inner_product_rounding(memory: NVUMMemory) -> float:
    """Return what rounding in float32 may do to an inner product of large memory rows and probabilities.

    Its terms cancel, so that no two orders of adding them agree to more than eps times the sum of their sizes. Where
    rows are of ordinary size the sum's own tolerance covers it: 0.
    """
    rows_NC = memory.current_NC[memory.touched_N.bool()].nan_to_num(0, 0, 0)
    largest_sum = float(rows_NC.abs().sum(dim=1).max()) if rows_NC.numel() else 0.0
    return torch.finfo(torch.float32).eps * largest_sum if largest_sum > 1e3 else 0.0


def spoil(step: Step, seed: int) -> None:
    """Skip rows, break teachers and partners, and write nonsense wherever nothing counts."""
    draw = torch.Generator().manual_seed(seed)
    batch = len(step.index_B)

    def some() -> torch.Tensor:
        return torch.rand(batch, generator=draw) < 0.2

    step.index_B[some()] = -1
    step.teacher_BC[some(), -1] = torch.inf
    step.teacher_BC[some(), 0] = torch.nan
    if step.perm_B is not None:
        step.perm_B[some()] = -1
        step.perm_B[some()] = batch
    nothing_BC = ~step.mask_BC.bool() | (step.index_B < 0).unsqueeze(1)
    step.logits_BC[nothing_BC] = torch.nan
    step.targets_BC[nothing_BC] = torch.nan


@each_implementation
@given(
    batch=st.integers(1, 70), outputs=st.integers(1, 64), seed=st.integers(0, 2**31), form=st.sampled_from(FORMS),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]), spread=st.sampled_from([2.0, 1e4]),
    mixup=st.booleans(), weighted=st.booleans(), spoilt=st.booleans(), reg_weight=st.sampled_from([0.0, 1.0, 3.7]),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_equals_plain_for_any_batch(
    implementation: Implementation, device: str, batch: int, outputs: int, seed: int, form: Regulariser,
    dtype: torch.dtype, spread: float, mixup: bool, weighted: bool, spoilt: bool, reg_weight: float,
) -> None:  # fmt: skip
    step = random_step(seed, batch=batch, outputs=outputs, rows=2 * batch, dtype=torch.float32, spread=spread)
    step.implementation = implementation
    if implementation != "native":
        step.logits_BC, step.teacher_BC = step.logits_BC.to(dtype), step.teacher_BC.to(dtype)
    if weighted:
        step.mask_BC = step.mask_BC * (0.5 + step.targets_BC)
    if spoilt:
        spoil(step, seed)
    assert_equals_plain(step.to(device), NVUMConfig(regulariser=form, reg_weight=reg_weight, mixup=mixup))


@each_implementation
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("batch", "outputs", "rows"),
    [(1, 1, 1), (4096, 64, 4096), (4095, 1, 1_000_000), (1024, 14, 1_000_000), (33, 17, 40)],
)
def test_equals_plain_at_odd_and_large_shapes(
    implementation: Implementation, device: str, form: Regulariser, batch: int, outputs: int, rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if device == "cpu":
        monkeypatch.setattr(nvum_triton, "TILE", 1 << 14)  # the interpreter pays by the program
    step = random_step(batch, batch=batch, outputs=outputs, rows=rows, dtype=torch.float32)
    step.implementation = implementation
    spoil(step, batch)
    assert_equals_plain(step.to(device), NVUMConfig(regulariser=form))


@each_implementation
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [88.0, 104.0, 1e4, 1e30])
def test_large_logits_memories_and_a_prior_of_zero_stay_finite(
    implementation: Implementation, device: str, form: Regulariser, size: float
) -> None:
    step = random_step(5, batch=40, outputs=14, rows=50, dtype=torch.float32)
    step.implementation = implementation
    step = replace(
        step,
        logits_BC=size * torch.sign(step.logits_BC),
        teacher_BC=size * torch.sign(step.teacher_BC),
        memory_NC=size * torch.sign(step.memory_NC),
        prior_C=torch.zeros_like(step.prior_C),
    ).to(device)
    parts, grad_BC, memory = step.run(NVUMConfig(regulariser=form))
    for tensor in (parts.loss, parts.bce, parts.reg, grad_BC, after_epoch(memory)):
        assert tensor.isfinite().all()
    assert_equals_plain(step, NVUMConfig(regulariser=form))


@each_implementation
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_counted_logit_that_is_not_finite_shows_in_the_loss_and_in_no_other_row(
    implementation: Implementation, device: str, form: Regulariser, value: float
) -> None:
    step = replace(random_step(6, dtype=torch.float32), implementation=implementation)
    step.mask_BC[:] = True
    step.logits_BC[2, 1] = value
    parts, grad_BC, memory = step.to(device).run(NVUMConfig(regulariser=form))
    expected, _, expected_memory = replace(step, implementation="plain").to(device).run(NVUMConfig(regulariser=form))
    assert not parts.loss.isfinite()
    assert not expected.loss.isfinite()
    assert grad_BC[[0, 1, 3, 4, 5]].isfinite().all()
    torch.testing.assert_close(after_epoch(memory), after_epoch(expected_memory))


@each_that_takes_any_layout_and_half_precision
def test_gradients_are_scaled_before_they_are_rounded(implementation: Implementation, device: str) -> None:
    """In fp16 most of these would be 0 before a scaler's factor, which the backward pass brings."""
    step = replace(random_step(7, dtype=torch.float32), implementation=implementation).to(device)
    step.logits_BC = step.logits_BC.half()
    grads = []
    for logits_BC in (step.logits_BC, step.logits_BC.float()):
        logits_BC.requires_grad_()
        parts = nvum_step(
            logits_BC, step.teacher_BC, step.targets_BC, step.mask_BC, step.index_B, memory=step.memory(),
            log_prior_C=log_prior(step.prior_C), perm_B=step.perm_B, lam=step.lam, config=NVUMConfig(),
            num_global=10_000_000, implementation=implementation,
        )  # fmt: skip
        (2.0**20 * parts.loss).backward()  # type: ignore[no-untyped-call]
        assert logits_BC.grad is not None
        grads.append(logits_BC.grad)
    assert torch.equal(grads[0], grads[1].half())
    assert (grads[0][step.mask_BC] != 0).all()


@each_implementation
def test_running_twice_and_recomputing_write_the_same(implementation: Implementation, device: str) -> None:
    step = replace(random_step(10, dtype=torch.float32), implementation=implementation).to(device)
    config = NVUMConfig()
    once, grad_BC, memory = step.run(config)
    twice, grad_again_BC, memory = step.run(config, memory=memory)
    assert torch.equal(once.loss, twice.loss)
    assert torch.equal(grad_BC, grad_again_BC)

    recomputed = step.memory()
    logits_BC = step.logits_BC.clone().requires_grad_()

    def loss(logits_BC: torch.Tensor) -> torch.Tensor:
        return nvum_step(
            logits_BC * 1.0, step.teacher_BC, step.targets_BC, step.mask_BC, step.index_B, memory=recomputed,
            log_prior_C=log_prior(step.prior_C), perm_B=step.perm_B, lam=step.lam, config=config,
            num_global=len(step.index_B), implementation=implementation,
        ).loss  # fmt: skip

    checkpoint(loss, logits_BC, use_reentrant=False).backward()
    assert logits_BC.grad is not None
    assert torch.equal(logits_BC.grad, grad_BC)
    assert torch.equal(after_epoch(recomputed), after_epoch(memory))


@each_implementation
@pytest.mark.parametrize("form", FORMS)
def test_gradient_accumulation_equals_the_whole_batch(
    implementation: Implementation, device: str, form: Regulariser
) -> None:
    step = replace(random_step(11, dtype=torch.float32, batch=7), implementation=implementation, perm_B=None).to(device)
    config = NVUMConfig(regulariser=form)
    whole, grad_BC, memory = step.run(config)
    shared, losses, grads = step.memory(), [], []
    for part in (slice(0, 3), slice(3, 4), slice(4, 7)):
        micro = replace(
            step, logits_BC=step.logits_BC[part], teacher_BC=step.teacher_BC[part], targets_BC=step.targets_BC[part],
            mask_BC=step.mask_BC[part], index_B=step.index_B[part],
        )  # fmt: skip
        parts, micro_grad_BC, _ = micro.run(config, memory=shared, num_global=7)
        losses.append(parts.loss.detach())
        grads.append(micro_grad_BC)
    torch.testing.assert_close(torch.stack(losses).sum(), whole.loss.detach())
    torch.testing.assert_close(torch.cat(grads), grad_BC)
    assert torch.equal(after_epoch(shared), after_epoch(memory))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own doing
@each_that_takes_any_layout_and_half_precision
def test_compiles_into_one_graph_that_lam_does_not_change(implementation: Implementation, device: str) -> None:
    """`aot_eager` traces forward, backward and writes as the real compiler does, and leaves out its code generation."""
    torch.compiler.reset()
    step = replace(random_step(12, dtype=torch.float32), implementation=implementation).to(device)
    memory, eager_memory = step.memory(), step.memory()

    def loss(logits_BC: torch.Tensor, lam: torch.Tensor, memory: NVUMMemory) -> torch.Tensor:
        return nvum_step(
            logits_BC, step.teacher_BC, step.targets_BC, step.mask_BC, step.index_B, memory=memory,
            log_prior_C=log_prior(step.prior_C), perm_B=step.perm_B, lam=lam, config=NVUMConfig(),
            num_global=6, implementation=implementation,
        ).loss  # fmt: skip

    num_graphs = 0

    def counting(graph: Any, inputs: Any) -> Any:
        nonlocal num_graphs
        num_graphs += 1
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    compiled = torch.compile(loss, fullgraph=True, backend=counting)
    for lam in (0.6, 0.7, 0.8):
        lam_tensor = torch.tensor(lam, device=device)
        found_BC, expected_BC = (step.logits_BC.clone().requires_grad_() for _ in range(2))
        found = compiled(found_BC, lam_tensor, memory)
        expected = loss(expected_BC, lam_tensor, eager_memory)
        found.backward()  # type: ignore[no-untyped-call]
        expected.backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found_BC.grad, expected_BC.grad, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(after_epoch(memory), after_epoch(eager_memory), rtol=1e-6, atol=1e-6)
    assert num_graphs == 1


@each_that_takes_any_layout_and_half_precision
def test_the_layout_of_what_comes_in_does_not_matter(implementation: Implementation, device: str) -> None:
    step = replace(random_step(16, dtype=torch.float32), implementation=implementation).to(device)
    expected, expected_grad_BC, _ = step.run(NVUMConfig())
    strided = replace(step)
    for name in ("logits_BC", "teacher_BC", "targets_BC", "mask_BC"):
        setattr(strided, name, getattr(step, name).t().contiguous().t())
    for name in ("index_B", "perm_B"):
        setattr(strided, name, getattr(step, name).repeat_interleave(2)[::2])
    strided.targets_BC = strided.targets_BC.bool()
    parts, grad_BC, memory = strided.run(NVUMConfig())
    torch.testing.assert_close(parts.loss, expected.loss)
    torch.testing.assert_close(grad_BC, expected_grad_BC)
    assert torch.equal(memory.touched_N.nonzero().flatten(), step.index_B.sort().values)


@each_implementation
@pytest.mark.parametrize("form", FORMS)
def test_a_batch_without_rows(implementation: Implementation, device: str, form: Regulariser) -> None:
    step = replace(random_step(13, batch=0, dtype=torch.float32), implementation=implementation).to(device)
    parts, grad_BC, memory = step.run(NVUMConfig(regulariser=form))
    assert parts.loss == 0
    assert grad_BC.shape == (0, 4)
    assert memory.num_touched == 0


@pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=runs_in_the_interpreter), pytest.param("cuda", marks=runs_on_a_gpu)]
)
def test_an_index_beyond_the_memory_makes_the_kernels_loss_nan_and_writes_nothing(device: str) -> None:
    step = replace(random_step(14, dtype=torch.float32), implementation="triton").to(device)
    beyond = int(step.index_B[3])
    step.index_B[3] = len(step.memory_NC)
    parts, _, memory = step.run(NVUMConfig())
    assert parts.loss.isnan()
    assert memory.num_touched == 5
    assert not memory.touched_N[beyond]


@pytest.mark.parametrize("implementation", ["plain", "analytic", "native"])
def test_an_index_beyond_the_memory_is_an_error_on_the_cpu(implementation: Implementation) -> None:
    step = replace(random_step(14, dtype=torch.float32), implementation=implementation)
    step.index_B[3] = len(step.memory_NC) + 5
    with pytest.raises(IndexError):
        step.run(NVUMConfig())
