"""The compiled loop of the NVUM step: its bits, its precision, its gradient, and who steps in where it does not fit."""

import ctypes
import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.nvum_inputs import FORMS, Step, after_epoch, random_step
from trainer import nvum_native
from trainer.memory import NVUMMemory
from trainer.nvum import NVUMConfig, Regulariser, cpu_implementation, log_prior, step_function
from trainer.nvum_analytic import analytic_step
from trainer.nvum_config import NVUMInputs
from trainer.nvum_native import native_step

SOURCE = Path(nvum_native.__file__).with_suffix(".c")
EPS = torch.finfo(torch.float32).eps


def native(seed: int, **shape: Any) -> Step:
    return replace(random_step(seed, dtype=torch.float32, **shape), implementation="native")


def inputs(step: Step, config: NVUMConfig | None = None) -> NVUMInputs:
    return NVUMInputs(
        step.logits_BC, step.teacher_BC, step.targets_BC, step.mask_BC, step.index_B, step.memory(),
        log_prior(step.prior_C), step.perm_B, step.lam, config or NVUMConfig(), len(step.index_B),
    )  # fmt: skip


def test_the_compiled_loop_is_installed() -> None:
    assert nvum_native.library is not None, "no C compiler when the project was installed?"
    assert cpu_implementation() == "native"


def test_float32_on_a_cpu_takes_the_compiled_loop() -> None:
    assert step_function("auto", inputs(native(0))) is native_step


@pytest.mark.parametrize(
    "change",
    [
        {"logits_BC": torch.zeros(6, 4, dtype=torch.float64)},
        {"logits_BC": torch.zeros(6, 4, dtype=torch.bfloat16)},
        {"teacher_logits_BC": torch.zeros(6, 4, dtype=torch.float16)},
        {"targets_BC": torch.zeros(4, 6).t()},
        {"targets_BC": torch.zeros(6, 4, dtype=torch.bool)},
        {"mask_BC": torch.ones(6, 4, dtype=torch.uint8)},
        {"mask_BC": torch.ones(6, 8, dtype=torch.bool)[:, ::2]},
        {"index_B": torch.arange(12)[::2]},
        {"perm_B": torch.arange(6, dtype=torch.int32)},
        {"memory": NVUMMemory(12, 4, dtype=torch.float64)},
        {"config": NVUMConfig(reg_weight=0)},
    ],
)
def test_auto_leaves_the_rest_to_the_analytic_step(change: dict[str, Any]) -> None:
    given = inputs(native(0))._replace(**change)
    assert step_function("auto", given) is analytic_step
    if "config" not in change:
        with pytest.raises(ValueError, match="takes contiguous float32"):
            step_function("native", given)


def test_a_row_of_too_many_outputs_is_left_to_the_analytic_step() -> None:
    assert step_function("auto", inputs(native(0, outputs=512))) is native_step
    assert step_function("auto", inputs(native(0, outputs=513))) is analytic_step


def test_without_a_compiler_the_analytic_step_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    step = replace(native(1, batch=64, outputs=14, rows=100), implementation="auto")
    expected, expected_grad_BC, expected_memory = step.run(NVUMConfig())
    monkeypatch.setattr(nvum_native, "library", None)
    assert cpu_implementation() == "analytic"
    assert step_function("auto", inputs(step)) is analytic_step
    with pytest.raises(ValueError, match="needs a C"):
        step_function("native", inputs(step))
    parts, grad_BC, memory = step.run(NVUMConfig())
    torch.testing.assert_close(parts.loss, expected.loss, rtol=4 * EPS, atol=4 * EPS)
    torch.testing.assert_close(grad_BC, expected_grad_BC, rtol=0, atol=8 * EPS * float(grad_BC.abs().max()))
    assert torch.equal(after_epoch(memory), after_epoch(expected_memory))


@pytest.mark.parametrize("outputs", [1, 4, 8, 14, 33])
def test_memory_rows_are_those_of_the_plain_step_to_the_bit(outputs: int) -> None:
    step = native(2, batch=300, outputs=outputs, rows=400)
    step.index_B[::7] = -1
    step.teacher_BC[::5, 0] = torch.inf
    config = NVUMConfig(memory_decay=0.83, prior_temperature=1.3)
    memory, expected = step.run(config)[2], replace(step, implementation="plain").run(config)[2]
    assert torch.equal(memory.touched_N, expected.touched_N)
    assert torch.equal(after_epoch(memory), after_epoch(expected))


@pytest.mark.parametrize("form", FORMS)
def test_loss_and_gradient_are_as_near_to_float64_as_float32_allows(form: Regulariser) -> None:
    step, config = native(3, batch=2000, outputs=14, rows=3000), NVUMConfig(regulariser=form)
    assert step.logits_BC.abs().max() < 9, "at the edge of the clamp a rounding decides whether there is a gradient"
    parts, grad_BC, _ = step.run(config)
    double = replace(step, implementation="plain")
    for name, value in vars(double).items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            setattr(double, name, value.double())
    expected, expected_grad_BC, _ = double.run(config)
    for name in ("loss", "bce", "reg"):
        assert getattr(parts, name).item() == pytest.approx(getattr(expected, name).item(), rel=4 * EPS)
    error_BC = (grad_BC - expected_grad_BC).abs()
    assert float(error_BC.max()) < 8 * EPS * float(expected_grad_BC.abs().max())


def test_sigmoid_and_cross_entropy_have_their_full_precision_at_any_logit() -> None:
    """Of the smallest probabilities too: errors are relative. Below exp(-87.3) a float32 is no longer normal."""
    logits_B = torch.cat([torch.linspace(-87.3, 87.3, 4001), torch.tensor([-1e-30, 0.0, 1e-30, 1e-4, -1e-4])])
    batch = len(logits_B)
    step = Step(
        logits_BC=logits_B[:, None], teacher_BC=torch.zeros(batch, 1), targets_BC=torch.zeros(batch, 1),
        mask_BC=torch.ones(batch, 1, dtype=torch.bool), index_B=torch.arange(batch), memory_NC=torch.zeros(batch, 1),
        prior_C=torch.ones(1), perm_B=None, lam=1.0, implementation="native",
    )  # fmt: skip
    config = NVUMConfig(reg_weight=0)
    _, grad_BC, _ = step.run(config, num_global=1)
    expected_B = torch.sigmoid(logits_B.double())
    assert float(((grad_BC[:, 0] - expected_B) / expected_B).abs().max()) < 2.5 * EPS
    for logit in logits_B[::40].tolist():
        one = replace(step, logits_BC=torch.tensor([[logit]]), teacher_BC=torch.zeros(1, 1),
                      targets_BC=torch.zeros(1, 1), mask_BC=step.mask_BC[:1], index_B=torch.arange(1))  # fmt: skip
        exact = max(logit, 0) + math.log1p(math.exp(-abs(logit)))
        assert one.run(config)[0].bce.item() == pytest.approx(exact, rel=2.5 * EPS)


def test_the_gradient_is_scaled_accumulated_and_kept() -> None:
    step = native(4)
    _, grad_BC, _ = step.run(NVUMConfig())
    logits_BC = step.logits_BC.clone().requires_grad_()
    loss = native_step(inputs(step)._replace(logits_BC=logits_BC)).loss
    for times in (1.0, 2.0):
        loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        assert logits_BC.grad is not None
        assert torch.equal(logits_BC.grad, times * grad_BC)
    logits_BC.grad = None
    (0.5 * loss).backward()  # type: ignore[no-untyped-call]
    scaled_BC: torch.Tensor | None = logits_BC.grad
    assert scaled_BC is not None
    assert torch.equal(scaled_BC, 0.5 * grad_BC)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()  # type: ignore[no-untyped-call]


def test_a_gradient_of_the_gradient_is_refused() -> None:
    given = inputs(native(5))._replace(logits_BC=torch.zeros(6, 4, requires_grad=True))
    with pytest.raises(RuntimeError, match="differentiated once"):
        torch.autograd.grad(native_step(given).loss, given.logits_BC, create_graph=True)


def test_an_index_beyond_the_memory_leaves_the_memory_as_it_was() -> None:
    step = native(6)
    step.index_B[3] = len(step.memory_NC)
    memory = step.memory()
    with pytest.raises(IndexError, match="sample_index 12 is beyond the memory's 12 rows"):
        step.run(NVUMConfig(), memory=memory)
    assert memory.num_touched == 0
    assert not memory.current_NC.any()


@pytest.mark.parametrize("form", FORMS)
def test_the_same_bits_on_every_processor(form: Regulariser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled for one processor at a time, as the loader of the library chooses among its clones; only those run that
    this machine can."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None, "the C compiler that built the loop is gone"
    supported = torch.backends.cpu.get_cpu_capability()
    flags = ["-O0", "-O3", *(["-O3 -mavx2"] if supported in ("AVX2", "AVX512") else [])]
    flags += ["-O3 -mavx512f"] if supported == "AVX512" else []
    step = native(7, batch=333, outputs=14, rows=500, spread=6.0)
    step.index_B[::9] = -1
    results = [step.run(NVUMConfig(regulariser=form))]
    for number, options in enumerate(flags):
        built = tmp_path / f"{number}.so"
        command = [compiler, *options.split(), "-ffp-contract=off", "-DFOR_EVERY_CPU=", "-shared", "-fPIC"]
        subprocess.run([*command, SOURCE, "-o", built, "-lm"], check=True, timeout=100)
        monkeypatch.setattr(nvum_native, "library", ctypes.CDLL(str(built)))
        results.append(step.run(NVUMConfig(regulariser=form)))
    expected, expected_grad_BC, expected_memory = results[0]
    expected_rows_NC = after_epoch(expected_memory)
    for parts, grad_BC, memory in results[1:]:
        assert torch.equal(parts.loss, expected.loss)
        assert torch.equal(parts.reg, expected.reg)
        assert torch.equal(grad_BC, expected_grad_BC)
        assert torch.equal(after_epoch(memory), expected_rows_NC)
