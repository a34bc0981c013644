"""One optimiser step: parts of a batch, what is not finite, who decides, how the networks are called."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from manifests.errors import ConfigError
from pipeline.batch import Batch
from pipeline.loaders import LoadedStep
from tests.trainer.tiny_runs import settings
from trainer.config import TrainConfig
from trainer.data import TrainingData, open_training_data
from trainer.distributed import ALONE
from trainer.losses import LossParts
from trainer.methods import METHODS, LossConfig, LossInputs
from trainer.models.registry import MODELS
from trainer.rng import seed_generators
from trainer.sections import build
from trainer.settle import settle
from trainer.state import TrainState, new_state
from trainer.step import TrainStep, part_sizes
from trainer.sums import LossSums


@pytest.fixture(scope="module")
def data(tiny_pack: Path) -> TrainingData:
    return open_training_data(tiny_pack, space_name="nvum-nih", prior_form="authors")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def configured(data: TrainingData, **sections: dict[str, Any]) -> TrainConfig:
    values = settings(data.pack.folder, **sections)
    return settle(build(TrainConfig, values, source="test"), data.pack, ALONE)


def new_step(data: TrainingData, *, host_looks: bool | None = None, **sections: dict[str, Any]) -> TrainStep:
    """A step of a run that has not begun, with the same weights each time."""
    config = configured(data, **sections)
    seed_generators(0)
    state = new_state(
        config,
        num_rows=data.pack.num_samples,
        num_outputs=len(data.space.findings),
        device=torch.device("cpu"),
        load_weights=False,
        ranks=ALONE,
    )
    return TrainStep(config, data, state, host_looks=host_looks)


def take(step: TrainStep, number: int, *, size: int = 8, skipped_row: int | None = None) -> LossParts:
    """Take one step over training rows that `number` chooses."""
    index_n = step_rows(step, number, size)
    draw = torch.Generator().manual_seed(number)
    images_B1HW = torch.randint(0, 256, (size, 1, 32, 32), generator=draw, dtype=torch.uint8)
    index_B = torch.from_numpy(index_n.copy())
    if skipped_row is not None:
        index_B[skipped_row] = -1
    num_counted = int((index_B >= 0).sum())
    loaded = LoadedStep(Batch(images_B1HW=images_B1HW, sample_index_B=index_B), (number + 1) * size, num_counted)
    return step(loaded, index_n)


def step_rows(step: TrainStep, number: int, size: int) -> Any:
    rows_n = step.data.train.sample_index_n
    first = number * size % (len(rows_n) - size)
    return rows_n[first : first + size]


def tensors(state: TrainState) -> dict[str, torch.Tensor]:
    """Every tensor that a step moves, copied, but for the memory's."""
    found = {f"student.{name}": value for name, value in state.student.state_dict().items()}
    if state.teacher is not None:
        found |= {f"teacher.{name}": value for name, value in state.teacher.state_dict().items()}
    for number, moments in state.optimiser.state_dict()["state"].items():
        found |= {f"optimiser.{number}.{name}": value for name, value in moments.items()}
    return {name: value.clone() for name, value in found.items()}


def different(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def spoil_gradient(step: TrainStep) -> Any:
    """Make one number of every gradient to come infinite; the loss stays what it is."""

    def spoil(grad: torch.Tensor) -> torch.Tensor:
        spoilt = grad.clone()
        spoilt.view(-1)[0] = float("inf")
        return spoilt

    return next(step.state.student.parameters()).register_hook(spoil)  # type: ignore[no-untyped-call]


def spoil_loss(step: TrainStep, monkeypatch: pytest.MonkeyPatch, *, at: int) -> None:
    """Make the loss of the step after `at` steps, and every running statistic that it moves, a NaN."""
    compute, calls = step.method.compute, iter(range(1000))

    def spoilt(inputs: LossInputs, config: LossConfig) -> LossParts:
        parts = compute(inputs, config)
        if next(calls) != at:
            return parts
        for buffer in step.state.student.buffers():
            if buffer.is_floating_point():
                buffer.data.fill_(float("nan"))  # past autograd: in earnest the forward pass itself does it
        return parts._replace(loss=parts.loss * float("nan"))

    monkeypatch.setattr(step, "method", replace(step.method, compute=spoilt))


@pytest.mark.parametrize(("batch_size", "num_parts"), [(8, 1), (8, 3), (8, 8), (3, 7), (1, 2)])
def test_parts_are_even_and_none_is_empty(batch_size: int, num_parts: int) -> None:
    sizes = list(part_sizes(batch_size, num_parts))
    assert sum(sizes) == batch_size
    assert len(sizes) == min(num_parts, batch_size)
    assert 1 <= min(sizes) <= max(sizes) <= min(sizes) + 1
    assert sizes == sorted(sizes, reverse=True)


class WithoutBatchNorm(nn.Module):
    """What computes each image by itself, so that it does not matter with which others."""

    def __init__(self, num_outputs: int, *, recompute: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 5, stride=3)
        self.norm = nn.GroupNorm(2, 6)
        self.head = nn.Linear(6, num_outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.norm(self.conv(images)).relu().mean(dim=(2, 3)))
        return logits


@pytest.mark.parametrize("loss", METHODS)
def test_a_batch_in_parts_is_the_whole_batch(loss: str, data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss, gradient and memory, with an uneven last part and a row that does not count; memory mixup off."""
    spec = replace(MODELS["small"], make=WithoutBatchNorm)
    monkeypatch.setitem(MODELS, "small", spec)
    outcomes = []
    for parts in (1, 3):
        step = new_step(data, loss={"name": loss, "mixup": False}, step={"accumulate": parts}, optim={"name": "sgd"})
        losses = [take(step, number, skipped_row=2) for number in range(2)]
        outcomes.append((step, losses))
    (whole, whole_losses), (cut, cut_losses) = outcomes
    for one, other in zip(whole_losses, cut_losses, strict=True):
        for field in ("loss", "bce", "reg", "num_rows_skipped", "num_rows_nonfinite"):
            torch.testing.assert_close(getattr(one, field), getattr(other, field), rtol=1e-5, atol=1e-7)
    for name, value in tensors(whole.state).items():
        torch.testing.assert_close(tensors(cut.state)[name], value, rtol=1e-5, atol=1e-6, msg=name)
    if whole.state.memory is not None and cut.state.memory is not None:
        assert torch.equal(whole.state.memory.touched_N, cut.state.memory.touched_N)
        torch.testing.assert_close(whole.state.memory.current_NC, cut.state.memory.current_NC, rtol=1e-5, atol=1e-6)


def test_running_statistics_move_with_each_part(data: TrainingData) -> None:
    step = new_step(data, step={"accumulate": 3})
    take(step, 0)
    counts = {int(value) for name, value in step.state.student.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {3}


@pytest.mark.parametrize("loss", ["bce", "nvum"])
@pytest.mark.parametrize("optim", ["adam", "sgd"])
def test_who_looks_does_not_matter_while_all_is_finite(loss: str, optim: str, data: TrainingData) -> None:
    steps = [
        new_step(data, host_looks=host, loss={"name": loss}, optim={"name": optim}, ema={"enabled": "on"})
        for host in (True, False)
    ]
    for number in range(3):
        host, device = (take(step, number) for step in steps)
        assert torch.equal(host.loss, device.loss)
    assert different(*(tensors(step.state) for step in steps)) == []


@pytest.mark.parametrize("host_looks", [True, False])
@pytest.mark.parametrize("optim", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("at", [0, 2])
def test_a_skipped_step_moves_nothing_and_is_counted(
    host_looks: bool, optim: str, at: int, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = new_step(
        data, host_looks=host_looks, loss={"name": "bce"}, ema={"enabled": "on"}, optim={"name": optim},
        step={"on_nonfinite": "skip", "clip_norm": 1.0},
    )  # fmt: skip
    spoil_loss(step, monkeypatch, at=at)
    sums, before = LossSums(torch.device("cpu")), tensors(step.state)
    for number in range(at + 1):
        before = tensors(step.state)
        sums.add(take(step, number), 8)
    after = tensors(step.state)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert step.state.cursor.step == at + 1
    sums.add(take(step, at + 1), 8)
    assert all(bool(value.isfinite().all()) for value in tensors(step.state).values())
    assert different({name: after[name] for name in before}, {name: tensors(step.state)[name] for name in before})
    means = sums.read(ALONE)
    assert (means.num_steps_skipped, means.num_samples) == (1, 8 * (at + 1))
    assert 0 < means.loss < 10


@pytest.mark.parametrize("spoilt", ["loss", "gradient"])
def test_where_the_host_looks_the_run_stops_before_the_weights_move(
    spoilt: str, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = new_step(data, loss={"name": "bce"})
    take(step, 0)
    before = {name: param.clone() for name, param in step.state.student.named_parameters()}
    if spoilt == "loss":
        spoil_loss(step, monkeypatch, at=0)
    else:
        spoil_gradient(step)
    with pytest.raises(ConfigError, match="epoch 0, step 1: the loss or its gradient is not a finite number"):
        take(step, 1)
    assert all(torch.equal(before[name], param) for name, param in step.state.student.named_parameters())


@pytest.mark.parametrize("spoilt", ["loss", "gradient"])
def test_where_the_device_decides_the_weights_stay_and_the_loss_says_so(
    spoilt: str, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = new_step(data, host_looks=False, loss={"name": "bce"})
    if spoilt == "loss":
        spoil_loss(step, monkeypatch, at=0)
    else:
        spoil_gradient(step)
    before = {name: param.clone() for name, param in step.state.student.named_parameters()}
    assert bool(take(step, 0).loss.isnan())
    assert all(torch.equal(before[name], param) for name, param in step.state.student.named_parameters())


@pytest.mark.parametrize("host_looks", [True, False])
def test_an_overflow_that_the_scaler_made_stops_no_run(host_looks: bool, data: TrainingData) -> None:
    step = new_step(data, host_looks=host_looks, loss={"name": "bce"})
    step.state.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    hook = spoil_gradient(step)
    before = {name: param.clone() for name, param in step.state.student.named_parameters()}
    assert bool(take(step, 0).loss.isfinite())
    assert step.state.scaler.get_scale() == 512.0
    assert all(torch.equal(before[name], param) for name, param in step.state.student.named_parameters())
    hook.remove()
    take(step, 1)
    assert not all(torch.equal(before[name], param) for name, param in step.state.student.named_parameters())


def test_clipping_is_by_the_norm_over_all_weights(data: TrainingData) -> None:
    norms = []
    for limit in (0.0, 0.01):
        step = new_step(data, loss={"name": "bce"}, step={"clip_norm": limit})
        take(step, 0)
        grads = [param.grad for param in step.state.student.parameters() if param.grad is not None]
        norms.append(float(torch.cat([grad.flatten() for grad in grads]).norm()))
    assert norms[0] > 0.02
    assert norms[1] == pytest.approx(0.01, rel=1e-3)


def test_compiled_networks_compute_the_same(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced whole, then run operator by operator; the real compiler is `test_the_real_compiler`'s."""
    real: Callable[..., Any] = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **options: real(module, backend="eager", fullgraph=True))
    plain, compiled = (new_step(data, loss={"name": "nvum"}, step={"compile": asked}) for asked in (False, True))
    for number, size in enumerate((8, 8, 5)):
        assert torch.equal(take(plain, number, size=size).loss, take(compiled, number, size=size).loss)
    assert different(tensors(plain.state), tensors(compiled.state)) == []
    assert list(compiled.state.student.state_dict()) == list(plain.state.student.state_dict())


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_real_compiler(data: TrainingData) -> None:
    plain, compiled = (new_step(data, loss={"name": "nvum"}, step={"compile": asked}) for asked in (False, True))
    for number in range(2):
        torch.testing.assert_close(take(plain, number).loss, take(compiled, number).loss, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"step": {"accumulate": 0}}, "step.accumulate=0: expected 1 or more"),
        ({"step": {"cuda_graph": True, "accumulate": 2}}, "leave one of them out"),
        ({"step": {"compile": True}, "model": {"name": "small", "recompute": True}}, "leave one of them out"),
        ({"step": {"cuda_graph": True}}, "step.cuda_graph=true: there are no CUDA graphs on"),
    ],
)
def test_what_does_not_go_together_is_refused(sections: dict[str, Any], message: str, data: TrainingData) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(data, **sections)
