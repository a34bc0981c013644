"""Who computes an NVUM step, what each refuses, and whether the kernel is an operator as torch wants it."""

from typing import Any

import pytest
import torch

from tests.trainer.nvum_inputs import random_step, runs_in_the_interpreter
from trainer import nvum, nvum_triton
from trainer.nvum import NVUMConfig, log_prior, step_function
from trainer.nvum_analytic import analytic_step
from trainer.nvum_config import NVUMInputs


def inputs(**changes: Any) -> NVUMInputs:
    step = random_step(15, dtype=torch.float32)
    values = NVUMInputs(
        step.logits_BC, step.teacher_BC, step.targets_BC, step.mask_BC, step.index_B, step.memory(),
        log_prior(step.prior_C), step.perm_B, step.lam, NVUMConfig(), 6,
    )  # fmt: skip
    return values._replace(**changes)


@runs_in_the_interpreter
def test_the_kernel_is_a_proper_operator() -> None:
    """torch's own checks: schema, what is written, and the shapes that a compiler is told."""
    given_ = inputs()
    arguments = (
        given_.logits_BC, given_.teacher_logits_BC, given_.targets_BC, given_.mask_BC, given_.index_B, given_.perm_B,
        given_.log_prior_C, given_.memory.previous_NC, given_.memory.current_NC, given_.memory.touched_N,
        given_.memory.arrivals, torch.tensor(0.7), True, 0.9, 1.0, 1.0, 1e-4, 0.01, 0.01,
    )  # fmt: skip
    torch.library.opcheck(nvum_triton._operator, arguments)


def test_cuda_without_triton_takes_it_too_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(nvum, "HAS_TRITON", False)
    monkeypatch.setattr(nvum, "suits_the_kernel", lambda _: True)
    nvum.say_that_triton_is_missing.cache_clear()
    for _ in range(3):
        assert step_function("auto", inputs()) is analytic_step
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["triton is not installed"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
def test_cuda_takes_the_kernel_unless_it_is_float64() -> None:
    single = inputs(logits_BC=torch.zeros(6, 4, device="cuda"))
    double = inputs(logits_BC=torch.zeros(6, 4, device="cuda", dtype=torch.float64))
    assert step_function("auto", single) is nvum_triton.triton_step
    assert step_function("auto", double) is analytic_step


def test_the_kernel_refuses_float64() -> None:
    with pytest.raises(ValueError, match=r"computes in float32: found logits of torch\.float64"):
        nvum_triton.triton_step(inputs(logits_BC=torch.zeros(6, 4, dtype=torch.float64)))


def test_an_unknown_implementation_is_refused() -> None:
    with pytest.raises(ValueError, match="expected auto, plain, analytic, native, triton"):
        step_function("cuda", inputs())  # type: ignore[arg-type]
