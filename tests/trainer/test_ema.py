"""Laws of the EMA teacher."""

import copy

import pytest
import torch
from torch import nn

from manifests.errors import ConfigError
from trainer.ema import EMAConfig, EMATeacher


class Net(nn.Module):
    """Convolution, BatchNorm and an integer buffer that training moves."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))

    def forward(self, images_B1HW: torch.Tensor) -> torch.Tensor:
        logits_BC: torch.Tensor = self.head(self.norm(self.conv(images_B1HW)).relu().mean(dim=(2, 3)))
        return logits_BC


def images(seed: int, num: int = 5) -> torch.Tensor:
    return torch.randn(num, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def train_step(student: Net, seed: int) -> None:
    student.train()
    student.zero_grad()
    student(images(seed)).square().sum().backward()
    with torch.no_grad():
        for param in student.parameters():
            assert param.grad is not None
            param.sub_(param.grad, alpha=0.05)
        student.get_buffer("num_steps").add_(1)


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("decay", [0.99, 0.5])
def test_teacher_equals_an_average_tensor_by_tensor(decay: float) -> None:
    student = Net()
    teacher, oracle = EMATeacher(student, decay), snapshot(student)
    for step in range(4):
        train_step(student, step)
        teacher.update(student)
        for name, value in student.state_dict().items():
            old = oracle[name]
            oracle[name] = decay * old + (1 - decay) * value if value.is_floating_point() else value.clone()
    for name, value in teacher.state_dict().items():
        torch.testing.assert_close(value, oracle[name], rtol=1e-6, atol=1e-7)
    assert teacher.module.get_buffer("num_steps") == 4
    mean = "norm.running_mean"
    assert not torch.equal(teacher.module.get_buffer(mean), student.get_buffer(mean))


def test_distance_to_a_student_that_stands_still_shrinks_by_the_decay() -> None:
    first, student = Net(seed=0), Net(seed=1)
    teacher = EMATeacher(first, 0.9)
    for _ in range(10):
        teacher.update(student)
    for name, value in teacher.module.named_parameters():
        start, goal = first.get_parameter(name), student.get_parameter(name)
        torch.testing.assert_close(value, goal + 0.9**10 * (start - goal), rtol=1e-5, atol=1e-6)


def test_decay_one_stands_still_and_decay_zero_follows_at_once() -> None:
    student = Net()
    still, close = EMATeacher(student, 1.0), EMATeacher(student, 0.0)
    before = snapshot(still.module)
    train_step(student, 0)
    still.update(student)
    close.update(student)
    floating = {name for name, value in before.items() if value.is_floating_point()}
    assert all(torch.equal(still.state_dict()[name], before[name]) for name in floating)
    assert same(close.state_dict(), snapshot(student))


def test_train_mode_forward_uses_the_batch_and_changes_nothing() -> None:
    student = Net()
    train_step(student, 0)
    teacher, plain = EMATeacher(student), copy.deepcopy(student).train()
    before = snapshot(teacher.module)
    logits_BC = teacher.forward_train(images(7))
    assert same(teacher.state_dict(), before)
    assert torch.equal(logits_BC, plain(images(7)))
    assert not logits_BC.requires_grad


def test_a_batch_that_is_not_finite_does_not_poison_the_teacher() -> None:
    teacher = EMATeacher(Net())
    before = snapshot(teacher.module)
    teacher.forward_train(torch.full((2, 1, 8, 8), torch.nan))
    assert same(teacher.state_dict(), before)


def test_eval_mode_forward_uses_the_running_statistics() -> None:
    student = Net()
    train_step(student, 0)
    teacher = EMATeacher(student)
    expected = copy.deepcopy(student).eval()(images(7))
    assert torch.equal(teacher.forward_eval(images(7)), expected)
    assert torch.equal(teacher.forward_eval(images(7)[:1]), teacher.forward_eval(images(7))[:1])


def test_student_goes_on_as_without_a_teacher() -> None:
    alone, followed = Net(), Net()
    teacher = EMATeacher(followed)
    for step in range(3):
        train_step(alone, step)
        train_step(followed, step)
        teacher.forward_train(images(step))
        teacher.update(followed)
    assert same(snapshot(alone), snapshot(followed))
    assert all(param.requires_grad for param in followed.parameters())
    assert not any(param.requires_grad for param in teacher.module.parameters())


def test_state_dict_round_trip_goes_on_alike() -> None:
    student = Net()
    teacher = EMATeacher(student)
    train_step(student, 0)
    teacher.update(student)
    resumed = EMATeacher(Net(seed=9))
    resumed.load_state_dict(snapshot(teacher.module))
    train_step(student, 1)
    teacher.update(student)
    resumed.update(student)
    assert same(snapshot(teacher.module), snapshot(resumed.module))


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_impossible_decay_is_refused(decay: float) -> None:
    with pytest.raises(ConfigError, match=r"ema\.decay"):
        EMAConfig(decay=decay)
