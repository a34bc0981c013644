"""DenseNet-121 is the standard one, with one input channel."""

import os
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from trainer.models.densenet import DenseNet121
from trainer.models.registry import build_model

NUM_PARAMETERS_OF_TORCHVISION = 7_978_856
"""Of `torchvision.models.densenet121()`: 3 input channels, 1,000 outputs."""


@pytest.fixture(scope="module")
def model() -> DenseNet121:
    torch.manual_seed(0)
    return DenseNet121(num_outputs=14)


@pytest.fixture
def images_B1HW() -> torch.Tensor:
    return torch.randn(2, 1, 64, 96, generator=torch.Generator().manual_seed(1))


def spread_statistics(model: nn.Module) -> None:
    """Give every BatchNorm weights and statistics that differ, so that a swapped pair cannot go unnoticed."""
    draw = torch.Generator().manual_seed(2)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            with torch.no_grad():
                layer.weight.uniform_(0.5, 1.5, generator=draw)
                layer.bias.uniform_(-0.2, 0.2, generator=draw)
            layer.running_mean.uniform_(-0.2, 0.2, generator=draw)
            layer.running_var.uniform_(0.5, 1.5, generator=draw)


def test_parameters_are_those_of_torchvision_less_two_input_channels() -> None:
    found = sum(param.numel() for param in DenseNet121(num_outputs=1000).parameters())
    assert found == NUM_PARAMETERS_OF_TORCHVISION - 2 * 64 * 7 * 7


def names_of_torchvision() -> Iterator[str]:
    """Yield the names of its state dict, in order."""

    def norm(name: str) -> Iterator[str]:
        yield from (
            f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        )

    yield "features.conv0.weight"
    yield from norm("features.norm0")
    for block, num_layers in enumerate((6, 12, 24, 16), start=1):
        for layer in range(1, num_layers + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            yield from (*norm(f"{name}.norm1"), f"{name}.conv1.weight", *norm(f"{name}.norm2"), f"{name}.conv2.weight")
        if block < 4:
            yield from (*norm(f"features.transition{block}.norm"), f"features.transition{block}.conv.weight")
    yield from norm("features.norm5")
    yield from ("classifier.weight", "classifier.bias")


def test_names_are_those_of_torchvision(model: DenseNet121) -> None:
    assert list(model.state_dict()) == list(names_of_torchvision())


def test_densenet_equals_monai(model: DenseNet121, images_B1HW: torch.Tensor) -> None:
    """The independent oracle: MONAI's DenseNet121 with the same weights puts out the same logits and gradients."""
    if os.environ.get("CI") != "true":
        pytest.importorskip("monai", reason="the development extra is not installed")
    from monai.networks.nets.densenet import DenseNet121 as MonaiDenseNet121

    oracle = MonaiDenseNet121(spatial_dims=2, in_channels=1, out_channels=14)
    spread_statistics(model)
    theirs = {
        name.replace(".layers.", ".").replace("class_layers.out", "classifier"): name for name in oracle.state_dict()
    }
    oracle.load_state_dict({theirs[name]: value for name, value in model.state_dict().items()})

    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images_B1HW), oracle.eval()(images_B1HW), rtol=1e-5, atol=1e-5)
    model.train()(images_B1HW).square().sum().backward()
    oracle.train()(images_B1HW).square().sum().backward()
    stem = "features.conv0.weight"
    torch.testing.assert_close(model.get_parameter(stem).grad, oracle.get_parameter(stem).grad, rtol=1e-3, atol=1e-3)
    model.zero_grad()


def test_same_seed_gives_the_same_weights() -> None:
    states = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        states.append(build_model("densenet121", 3, input_size_px=64).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["features.conv0.weight"], states[2]["features.conv0.weight"])


def test_channels_last_changes_speed_only(model: DenseNet121, images_B1HW: torch.Tensor) -> None:
    fast = build_model("densenet121", 14, input_size_px=64)
    fast.load_state_dict(model.state_dict())
    astray = []

    def look(module: torch.nn.Module, args: object, features: torch.Tensor) -> None:
        if not features.is_contiguous(memory_format=torch.channels_last):
            astray.append(module)

    for module in fast.features.modules():  # type: ignore[union-attr]
        module.register_forward_hook(look)
    with torch.no_grad():
        torch.testing.assert_close(fast.eval()(images_B1HW), model.eval()(images_B1HW), rtol=1e-4, atol=1e-5)
    assert not astray, "an image of one channel lies both ways at once, and everything after it followed the other one"
