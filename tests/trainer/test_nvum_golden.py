"""The NVUM step against values that were derived without it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.nvum_inputs import FORMS, runs_in_the_interpreter, runs_on_a_gpu
from tools.make_golden_nvum import DEFAULT_OUT, make_golden
from trainer.losses import LossParts, bce_loss, counted_entries
from trainer.memory import NVUMMemory
from trainer.nvum import Implementation, NVUMConfig, Regulariser, log_prior, nvum_step
from trainer.nvum_plain import memory_rows, regulariser_terms

GOLDEN: list[dict[str, Any]] = json.loads(DEFAULT_OUT.read_text(encoding="utf-8"))
NAMES = [case["name"] for case in GOLDEN]


def table(values: Any, dtype: torch.dtype) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


def filled_memory(rows: Any, dtype: torch.dtype) -> NVUMMemory:
    memory = NVUMMemory(len(rows), len(rows[0]), dtype=dtype)
    memory.previous_NC.copy_(table(rows, dtype))
    return memory


def run(
    case: dict[str, Any], form: Regulariser, dtype: torch.dtype, implementation: Implementation
) -> tuple[LossParts, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the loss, its gradient, the memory after the epoch, and q, of a case of our own file."""
    settings = dict(case["settings"])
    config = NVUMConfig(regulariser=form, **settings)
    memory = filled_memory(case["memory"], dtype)
    student = table(case["student"], dtype).requires_grad_()
    common = {
        "memory": memory,
        "log_prior_C": log_prior(table(case["prior"], torch.float64)).to(dtype),
        "perm_B": torch.tensor(case["perm"]),
        "lam": case["lam"],
        "config": config,
    }
    teacher, index_B = table(case["teacher"], dtype), torch.tensor(case["index"])
    # memory_rows leaves mixup's switch to nvum_step.
    rows = memory_rows(teacher, index_B, **(common | {"perm_B": common["perm_B"] if config.mixup else None}))
    parts = nvum_step(
        student,
        teacher,
        table(case["target"], dtype),
        table(case["mask"], dtype),
        index_B,
        num_global=case["num_global"],
        implementation=implementation,
        **common,
    )
    parts.loss.backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    memory.end_epoch()
    return parts, student.grad, memory.previous_NC, rows.q_BC


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", GOLDEN, ids=NAMES)
@pytest.mark.parametrize(
    ("implementation", "device", "dtype", "tolerance"),
    [
        ("plain", "cpu", torch.float64, 1e-13),
        ("plain", "cpu", torch.float32, 2e-6),
        ("analytic", "cpu", torch.float64, 1e-13),
        ("analytic", "cpu", torch.float32, 2e-6),
        ("native", "cpu", torch.float32, 2e-6),
        pytest.param("triton", "cpu", torch.float32, 2e-6, marks=runs_in_the_interpreter),
        pytest.param("triton", "cuda", torch.float32, 2e-6, marks=runs_on_a_gpu),
    ],
)
def test_step_equals_golden_values(
    case: dict[str, Any],
    form: Regulariser,
    implementation: Implementation,
    device: str,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    with torch.device(device):
        parts, grad_BC, memory_NC, q_BC = run(case, form, dtype, implementation)
    expected = case["expected"]
    counts_B = torch.tensor(case["index"]) >= 0
    found_and_expected = [
        (parts.loss, expected[form]["loss"]),
        (parts.bce, expected[form]["bce"]),
        (parts.reg, expected[form]["reg"]),
        (grad_BC, expected[form]["grad"]),
        (memory_NC, expected["memory"]),
        (q_BC.cpu()[counts_B], table(expected["q"], dtype)[counts_B].tolist()),
    ]
    for found, value in found_and_expected:
        torch.testing.assert_close(found.detach().cpu(), table(value, dtype), rtol=tolerance, atol=tolerance)


def test_golden_file_is_what_its_script_writes() -> None:
    fresh = json.loads(json.dumps(make_golden()))
    assert [case["name"] for case in fresh] == NAMES
    for found, committed in zip(fresh, GOLDEN, strict=True):
        assert {key: found[key] for key in found if key != "expected"} == {
            key: committed[key] for key in committed if key != "expected"
        }
        for form in FORMS:
            for quantity, value in committed["expected"][form].items():
                # The last digits belong to the machine's exp and log.
                torch.testing.assert_close(
                    table(found["expected"][form][quantity], torch.float64),
                    table(value, torch.float64),
                    rtol=1e-12,
                    atol=1e-15,
                )


REFERENCE_CASES = (
    "plain", "nih_width", "cxp_width", "extreme_logits", "no_mixup", "reg_weight_0", "prior_zero", "mask",
    "skipped_rows", "one_by_one",
)  # fmt: skip


@pytest.fixture(scope="session")
def reference(real_data: Path) -> dict[str, Any]:
    file = real_data.parent / "reference" / "nvum_golden.json"
    if not file.is_file():
        pytest.skip(f"there is no {file}: the authors' values lie beside the real data, our own are tested anyhow")
    return {case["name"]: case for case in json.loads(file.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", REFERENCE_CASES)
@pytest.mark.parametrize("implementation", ["plain", "analytic"])
def test_step_equals_reference_values(
    reference: dict[str, Any], name: str, form: Regulariser, implementation: Implementation
) -> None:
    case = reference[name]
    inputs, expected = case["inputs"], case[form]
    config = NVUMConfig(
        regulariser=form,
        reg_weight=inputs["reg_weight"],
        memory_decay=case["beta"],
        prior_temperature=case["tau"],
        clamp=case["clamp"],
    )
    dtype = torch.float64
    memory = filled_memory(inputs["memory"], dtype)
    student = table(inputs["student"], dtype).requires_grad_()
    teacher, mask_BC = table(inputs["teacher"], dtype), table(inputs["mask"], dtype)
    index_B = torch.tensor(inputs["index"])
    common: dict[str, Any] = {
        "memory": memory,
        "log_prior_C": log_prior(table(inputs["prior"], dtype)),
        "perm_B": torch.tensor(inputs["perm"]),
        "lam": inputs["lam"],
        "config": config,
    }
    target = table(inputs["target"], dtype)
    counts_B = index_B >= 0
    num_global = int(counts_B.sum())

    rows = memory_rows(teacher, index_B, **common)
    every_BC = counted_entries(torch.ones_like(mask_BC), index_B)
    counted_BC = every_BC if form == "elementwise" else counted_entries(mask_BC, index_B)
    reg = regulariser_terms(rows.q_BC, student.detach(), counted_BC, counts_B, config)
    parts = nvum_step(
        student, teacher, target, mask_BC, index_B, num_global=num_global, implementation=implementation, **common
    )
    parts.loss.backward()  # type: ignore[no-untyped-call]
    memory.end_epoch()

    def check(found: torch.Tensor | None, quantity: str, *, counted_rows_only: bool = False) -> None:
        assert found is not None
        value = table(expected[quantity], dtype)
        if counted_rows_only:
            found, value = found[counts_B], value[counts_B]
        torch.testing.assert_close(found.detach(), value, rtol=1e-13, atol=1e-14)

    check(parts.loss, "loss")
    check(student.grad, "grad")
    check(memory.previous_NC, "memory")
    check(rows.q_BC, "q", counted_rows_only=True)
    check(reg, "reg", counted_rows_only=True)
    check(entry_cross_entropies(student, target), "bce", counted_rows_only=True)


def entry_cross_entropies(student: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return [B, C]: the loss of each entry alone, masked ones too."""
    one = torch.ones(1, 1, dtype=torch.int64)
    losses = [
        bce_loss(logit.view(1, 1), value.view(1, 1), one, one.view(1), num_global=1).loss.detach()
        for logit, value in zip(student.flatten(), target.flatten(), strict=True)
    ]
    return torch.stack(losses).view(student.shape)
