"""What holds for every loss of the registry, whatever it computes."""

from dataclasses import dataclass, replace
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.losses import LossParts, bce_loss
from trainer.memory import NVUMMemory
from trainer.methods import METHODS, LossConfig, LossInputs, LossName

NUM_ROWS, NUM_OUTPUTS = 16, 4

NAMES: tuple[LossName, ...] = get_args(LossName)


@dataclass
class Outcome:
    """What one step of a loss did."""

    parts: LossParts
    grad_BC: torch.Tensor
    memory: NVUMMemory | None


def batch(seed: int, *, size: int = 8) -> LossInputs:
    """A batch with a skipped row, unlabelled entries and mixed labels; memory mixup off; of relay's last generation."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return 2 * torch.randn(*shape, generator=draw, dtype=torch.float64)

    index_B = torch.randperm(NUM_ROWS, generator=draw)[:size]
    index_B[1::5] = -1
    logits_BC = normal(size, NUM_OUTPUTS)
    return LossInputs(
        logits_BC=logits_BC,
        teacher_logits_BC=normal(size, NUM_OUTPUTS),
        targets_BC=torch.rand(size, NUM_OUTPUTS, generator=draw, dtype=torch.float64).round(decimals=1),
        mask_BC=torch.rand(size, NUM_OUTPUTS, generator=draw) < 0.7,
        index_B=index_B,
        num_global=max(int((index_B >= 0).sum()), 1),
        log_prior_C=normal(NUM_OUTPUTS),
        log_odds_C=normal(NUM_OUTPUTS),
        epoch=1,
        num_epochs=2,
    )


def filled_memory(name: LossName) -> NVUMMemory | None:
    columns = METHODS[name].memory_columns * NUM_OUTPUTS
    if not columns:
        return None
    memory = NVUMMemory(NUM_ROWS, columns, dtype=torch.float64)
    memory.previous_NC.copy_(0.4 * torch.rand(NUM_ROWS, columns, generator=torch.Generator().manual_seed(9)))
    return memory


def run(name: LossName, inputs: LossInputs, memory: NVUMMemory | None = None) -> Outcome:
    memory = memory or filled_memory(name)
    logits_BC = inputs.logits_BC.clone().requires_grad_()
    parts = METHODS[name].compute(replace(inputs, logits_BC=logits_BC, memory=memory), LossConfig(name=name))
    (grad_BC,) = torch.autograd.grad(parts.loss, logits_BC)
    return Outcome(parts, grad_BC, memory)


def some_rows(inputs: LossInputs, rows: slice) -> LossInputs:
    """A part of a batch, as another rank has it; `num_global` stays that of the whole."""
    names = ("logits_BC", "teacher_logits_BC", "targets_BC", "mask_BC", "index_B")
    return replace(inputs, **{name: getattr(inputs, name)[rows] for name in names})


def test_the_registry_has_every_name_with_a_source() -> None:
    assert set(METHODS) == set(NAMES)
    assert all(method.source for method in METHODS.values())


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=10)
def test_what_does_not_count_has_no_gradient_and_changes_nothing(name: LossName, seed: int) -> None:
    inputs = batch(seed)
    counted_BC = inputs.mask_BC & (inputs.index_B >= 0).unsqueeze(1)
    one = run(name, inputs)
    assert torch.equal(one.grad_BC[~counted_BC], torch.zeros_like(one.grad_BC[~counted_BC]))
    assert bool(one.grad_BC[counted_BC].any())
    elsewhere = replace(
        inputs,
        logits_BC=torch.where(counted_BC, inputs.logits_BC, inputs.logits_BC + 3),
        targets_BC=torch.where(counted_BC, inputs.targets_BC, 1 - inputs.targets_BC),
    )
    other = run(name, elsewhere)
    assert torch.equal(one.parts.loss, other.parts.loss)
    assert torch.equal(one.grad_BC, other.grad_BC)
    assert int(one.parts.num_rows_skipped) == int((inputs.index_B < 0).sum())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nothing_of_a_skipped_row_leaks(name: LossName, bad: float) -> None:
    inputs = batch(0)
    skipped_B1 = (inputs.index_B < 0).unsqueeze(1)
    spoilt = replace(
        inputs,
        logits_BC=inputs.logits_BC.masked_fill(skipped_B1, bad),
        teacher_logits_BC=inputs.teacher_logits_BC.masked_fill(skipped_B1, bad),
        targets_BC=inputs.targets_BC.masked_fill(skipped_B1, bad),
    )
    one, other = run(name, inputs), run(name, spoilt)
    for field in ("loss", "bce", "reg"):
        assert torch.equal(getattr(one.parts, field), getattr(other.parts, field)), field
    assert torch.equal(one.grad_BC, other.grad_BC)
    if one.memory is not None and other.memory is not None:
        assert torch.equal(one.memory.current_NC, other.memory.current_NC)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 8))
@settings(max_examples=10)
def test_losses_and_gradients_of_ranks_add_up_to_those_of_one_process(name: LossName, seed: int, cut: int) -> None:
    inputs = batch(seed)
    whole = run(name, inputs)
    first, second = (run(name, some_rows(inputs, rows)) for rows in (slice(0, cut), slice(cut, None)))
    together = first.parts.plus(second.parts)
    for field in ("loss", "bce", "reg", "num_rows_skipped", "num_rows_nonfinite"):
        torch.testing.assert_close(getattr(together, field), getattr(whole.parts, field))
    torch.testing.assert_close(torch.cat([first.grad_BC, second.grad_BC]), whole.grad_BC)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_rows_costs_nothing(name: LossName) -> None:
    outcome = run(name, some_rows(batch(0), slice(0, 0)))
    assert float(outcome.parts.loss.detach()) == 0
    assert outcome.grad_BC.shape == (0, NUM_OUTPUTS)
    assert (int(outcome.parts.num_rows_skipped), int(outcome.parts.num_rows_nonfinite)) == (0, 0)
    if outcome.memory is not None:
        assert outcome.memory.num_touched == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_step_that_runs_twice_gives_the_same(name: LossName) -> None:
    inputs = batch(0)
    memory = filled_memory(name)
    once = run(name, inputs, memory)
    rows_NC = None if memory is None else memory.current_NC.clone()
    twice = run(name, inputs, memory)
    assert torch.equal(once.parts.loss, twice.parts.loss)
    assert torch.equal(once.grad_BC, twice.grad_BC)
    if memory is not None and rows_NC is not None:
        assert torch.equal(memory.current_NC, rows_NC)
        assert memory.num_touched == int((inputs.index_B >= 0).sum())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(name: LossName, dtype: torch.dtype) -> None:
    inputs = batch(0)
    half_BC, half_teacher_BC = inputs.logits_BC.to(dtype), inputs.teacher_logits_BC.to(dtype)
    one = run(name, replace(inputs, logits_BC=half_BC, teacher_logits_BC=half_teacher_BC))
    other = run(name, replace(inputs, logits_BC=half_BC.float(), teacher_logits_BC=half_teacher_BC.float()))
    assert one.parts.loss.dtype == torch.float32
    assert one.grad_BC.dtype == dtype
    assert torch.equal(one.parts.loss, other.parts.loss)


@pytest.mark.parametrize("name", NAMES)
def test_beside_every_loss_stands_plain_cross_entropy(name: LossName) -> None:
    inputs = batch(3)
    plain = bce_loss(inputs.logits_BC, inputs.targets_BC, inputs.mask_BC, inputs.index_B, num_global=inputs.num_global)
    torch.testing.assert_close(run(name, inputs).parts.bce, plain.loss)
