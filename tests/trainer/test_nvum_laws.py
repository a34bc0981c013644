"""Laws of the NVUM step that hold for any batch."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import ConfigError
from tests.trainer.nvum_inputs import FORMS, after_epoch, random_step
from trainer.losses import LossParts, bce_loss
from trainer.nvum import NVUMConfig, Regulariser, log_prior, nvum_step, step_function
from trainer.nvum_config import NVUMInputs


@pytest.fixture(scope="module", params=["plain", "analytic"], autouse=True)
def each_implementation_with_float64(request: pytest.FixtureRequest) -> Iterator[None]:
    """The kernel computes in float32; tests of its own hold it against the plain step."""

    def chosen(_: str, inputs: NVUMInputs) -> Callable[[NVUMInputs], LossParts]:
        return step_function(request.param, inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.nvum.step_function", chosen)
        yield


@pytest.mark.parametrize("form", FORMS)
def test_gradient_equals_numerical_differentiation(form: Regulariser) -> None:
    step = random_step(0)
    step.index_B[1] = -1

    def loss(logits_BC: torch.Tensor) -> torch.Tensor:
        return nvum_step(
            logits_BC, step.teacher_BC, step.targets_BC, step.mask_BC, step.index_B, memory=step.memory(),
            log_prior_C=log_prior(step.prior_C), perm_B=step.perm_B, lam=step.lam,
            config=NVUMConfig(regulariser=form, reg_weight=1.7), num_global=5,
        ).loss  # fmt: skip

    assert torch.autograd.gradcheck(loss, step.logits_BC.clone().requires_grad_())


@pytest.mark.parametrize("form", FORMS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_reg_weight_zero_equals_bce(form: Regulariser, seed: int) -> None:
    step = random_step(seed)
    parts, grad_BC, _ = step.run(NVUMConfig(regulariser=form, reg_weight=0.0))
    logits_BC = step.logits_BC.clone().requires_grad_()
    bce = bce_loss(logits_BC, step.targets_BC, step.mask_BC, step.index_B, num_global=len(step.index_B))
    bce.loss.backward()  # type: ignore[no-untyped-call]
    assert logits_BC.grad is not None
    assert torch.equal(parts.loss, bce.loss)
    assert torch.equal(parts.bce, bce.bce)
    assert bce.reg == 0
    torch.testing.assert_close(grad_BC, logits_BC.grad, rtol=0, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_loss_is_bce_plus_weighted_regulariser(form: Regulariser) -> None:
    parts, _, _ = random_step(1).run(NVUMConfig(regulariser=form, reg_weight=2.5))
    torch.testing.assert_close(parts.loss.detach(), parts.bce + 2.5 * parts.reg)
    assert not parts.bce.requires_grad
    assert not parts.reg.requires_grad


@pytest.mark.parametrize("form", FORMS)
def test_lam_one_no_permutation_and_mixup_off_are_the_same(form: Regulariser) -> None:
    step = random_step(2)
    config = NVUMConfig(regulariser=form)
    lam_one = replace(step, lam=1.0).run(config)
    for other in (replace(step, perm_B=None).run(config), step.run(replace(config, mixup=False))):
        assert torch.equal(lam_one[0].loss, other[0].loss)
        assert torch.equal(lam_one[1], other[1])
    assert not torch.equal(lam_one[0].loss, step.run(config)[0].loss)


@pytest.mark.parametrize("form", FORMS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_permuting_the_batch_permutes_everything(form: Regulariser, seed: int) -> None:
    step, config = random_step(seed), NVUMConfig(regulariser=form)
    assert step.perm_B is not None
    shuffle_B = torch.randperm(len(step.index_B), generator=torch.Generator().manual_seed(seed))
    shuffled = replace(
        step,
        logits_BC=step.logits_BC[shuffle_B],
        teacher_BC=step.teacher_BC[shuffle_B],
        targets_BC=step.targets_BC[shuffle_B],
        mask_BC=step.mask_BC[shuffle_B],
        index_B=step.index_B[shuffle_B],
        perm_B=torch.argsort(shuffle_B)[step.perm_B[shuffle_B]],
    )
    parts, grad_BC, memory = step.run(config)
    shuffled_parts, shuffled_grad_BC, shuffled_memory = shuffled.run(config)
    torch.testing.assert_close(parts.loss, shuffled_parts.loss)
    torch.testing.assert_close(grad_BC[shuffle_B], shuffled_grad_BC, rtol=1e-12, atol=1e-15)
    assert torch.equal(after_epoch(memory), after_epoch(shuffled_memory))


@pytest.mark.parametrize("form", FORMS)
def test_ranks_losses_and_gradients_add_up_to_one_process(form: Regulariser) -> None:
    step, config = replace(random_step(3, batch=7), perm_B=None), NVUMConfig(regulariser=form)
    whole, grad_BC, _ = step.run(config)
    ranks = [
        replace(
            step,
            logits_BC=step.logits_BC[part],
            teacher_BC=step.teacher_BC[part],
            targets_BC=step.targets_BC[part],
            mask_BC=step.mask_BC[part],
            index_B=step.index_B[part],
        ).run(config, num_global=7)
        for part in (slice(0, 4), slice(4, 6), slice(6, 7))
    ]
    torch.testing.assert_close(sum(parts.loss for parts, _, _ in ranks), whole.loss)
    torch.testing.assert_close(torch.cat([grad for _, grad, _ in ranks]), grad_BC)


def test_prior_temperature_zero_ignores_the_prior() -> None:
    step = random_step(4)
    other_prior = replace(step, prior_C=step.prior_C.flip(0))
    off, on = NVUMConfig(prior_temperature=0.0), NVUMConfig()
    assert torch.equal(after_epoch(step.run(off)[2]), after_epoch(other_prior.run(off)[2]))
    assert not torch.equal(after_epoch(step.run(on)[2]), after_epoch(other_prior.run(on)[2]))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [60.0, 1e4])
def test_extreme_logits_and_a_prior_of_zero_stay_finite(form: Regulariser, dtype: torch.dtype, size: float) -> None:
    step = random_step(5, dtype=torch.float32)
    signs_BC = torch.where(step.logits_BC > 0, 1.0, -1.0)
    step = replace(
        step,
        logits_BC=(size * signs_BC).to(dtype),
        teacher_BC=(-size * signs_BC).to(dtype),
        memory_NC=size * torch.sign(step.memory_NC),
        prior_C=torch.zeros_like(step.prior_C),
    )
    parts, grad_BC, memory = step.run(NVUMConfig(regulariser=form))
    for tensor in (parts.loss, parts.bce, parts.reg, grad_BC, after_epoch(memory)):
        assert tensor.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(dtype: torch.dtype) -> None:
    step = random_step(6, dtype=torch.float32)
    rounded = replace(step, logits_BC=step.logits_BC.to(dtype), teacher_BC=step.teacher_BC.to(dtype))
    as_float = replace(rounded, logits_BC=rounded.logits_BC.float(), teacher_BC=rounded.teacher_BC.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts, grad_BC, memory = rounded.run(NVUMConfig())
    expected, expected_grad_BC, expected_memory = as_float.run(NVUMConfig())
    assert parts.loss.dtype == torch.float32
    assert torch.equal(parts.loss, expected.loss)
    assert torch.equal(grad_BC, expected_grad_BC.to(dtype))
    assert torch.equal(after_epoch(memory), after_epoch(expected_memory))


@pytest.mark.parametrize("form", FORMS)
def test_masked_entries_have_no_gradient_whatever_they_hold(form: Regulariser) -> None:
    step, config = random_step(7), NVUMConfig(regulariser=form)
    parts, grad_BC, _ = step.run(config)
    assert (grad_BC[~step.mask_BC] == 0).all()
    assert (grad_BC[step.mask_BC] != 0).all()
    spoilt = replace(
        step,
        logits_BC=torch.where(step.mask_BC, step.logits_BC, torch.nan),
        targets_BC=torch.where(step.mask_BC, step.targets_BC, torch.nan),
    )
    spoilt_parts, spoilt_grad_BC, _ = spoilt.run(config)
    assert torch.equal(parts.loss, spoilt_parts.loss)
    assert torch.equal(grad_BC, spoilt_grad_BC)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("skipped", [[0], [2, 5], [0, 1, 2, 3, 4, 5]])
def test_skipped_rows_leave_no_trace(form: Regulariser, skipped: list[int]) -> None:
    """A batch with skipped rows of garbage equals the batch without them; their partners use their own memory."""
    step, config = random_step(8, rows=6), NVUMConfig(regulariser=form)
    assert step.perm_B is not None
    kept = [row for row in range(6) if row not in skipped]
    for rows in (step.logits_BC, step.teacher_BC, step.targets_BC):
        rows[skipped] = torch.nan
    step.index_B[skipped] = -1
    parts, grad_BC, memory = step.run(config)
    assert int(parts.num_rows_skipped) == len(skipped)
    assert int(parts.num_rows_nonfinite) == 0
    assert (grad_BC[skipped] == 0).all()
    assert memory.num_touched == len(kept)
    if not kept:
        assert parts.loss == 0
        assert torch.equal(after_epoch(memory), step.memory_NC)
        return
    without = replace(
        step,
        logits_BC=step.logits_BC[kept],
        teacher_BC=step.teacher_BC[kept],
        targets_BC=step.targets_BC[kept],
        mask_BC=step.mask_BC[kept],
        index_B=step.index_B[kept],
        perm_B=torch.tensor([kept.index(p) if (p := int(step.perm_B[row])) in kept else -1 for row in kept]),
    )
    expected, expected_grad_BC, expected_memory = without.run(config)
    torch.testing.assert_close(parts.loss, expected.loss)
    torch.testing.assert_close(grad_BC[kept], expected_grad_BC)
    assert torch.equal(after_epoch(memory), after_epoch(expected_memory))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_rows_with_a_non_finite_teacher_keep_their_memory_and_are_counted(value: float) -> None:
    step = random_step(9)
    step.teacher_BC[2, 1] = value
    step.teacher_BC[4] = value
    step.index_B[5] = -1
    parts, grad_BC, memory = step.run(NVUMConfig())
    assert int(parts.num_rows_nonfinite) == 2
    assert int(parts.num_rows_skipped) == 1
    assert memory.num_touched + int(parts.num_rows_nonfinite) + int(parts.num_rows_skipped) == len(step.index_B)
    assert parts.loss.isfinite()
    assert grad_BC.isfinite().all()
    rows = step.index_B[[2, 4]]
    assert torch.equal(after_epoch(memory)[rows], step.memory_NC[rows])


def test_running_a_step_twice_changes_nothing() -> None:
    step, config = random_step(10), NVUMConfig()
    once = step.run(config)
    twice = step.run(config, memory=once[2])
    assert torch.equal(once[0].loss, twice[0].loss)
    assert torch.equal(once[1], twice[1])
    assert torch.equal(after_epoch(twice[2]), after_epoch(step.run(config)[2]))


def test_a_partner_visited_earlier_in_the_epoch_is_read_as_before_it() -> None:
    step, config = random_step(11, batch=6, rows=6), NVUMConfig()
    visited = step.run(config)[2]
    fresh, again = step.run(config), step.run(config, memory=visited)
    assert torch.equal(fresh[1], again[1])


def test_gradient_flows_to_the_student_alone() -> None:
    step = random_step(12)
    teacher_BC = step.teacher_BC.clone().requires_grad_()
    _, _, memory = replace(step, teacher_BC=teacher_BC).run(NVUMConfig())
    assert teacher_BC.grad is None
    assert not memory.current_NC.requires_grad


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("regulariser", "outer_product"), ("reg_weight", -1.0), ("reg_weight", float("nan")), ("memory_decay", 1.0),
        ("memory_decay", -0.1), ("prior_temperature", -1.0), ("prior_form", "flat"), ("clamp", 0.0), ("clamp", 0.5),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"loss.{option}={value}"):
        NVUMConfig(**{option: value})
