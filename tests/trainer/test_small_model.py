"""The small model, and the registry that finds models."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from manifests.errors import ConfigError
from trainer.models.registry import MODELS, build_model, refuse_small_images_alone


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size_px", [32, 65])
def test_models_take_any_size_from_their_smallest_up(name: str, size_px: int) -> None:
    model = build_model(name, 5, input_size_px=size_px)
    logits_BC = model(torch.randn(2, 1, size_px, size_px))
    assert logits_BC.shape == (2, 5)
    assert logits_BC.isfinite().all()


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean densenet121"):
        build_model("densnet121", 5, input_size_px=64)
    with pytest.raises(ConfigError, match="there are: densenet121, small"):
        build_model("resnet", 5, input_size_px=64)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(ConfigError, match="16 px"):
        build_model("small", 5, input_size_px=16)


@pytest.mark.parametrize("name", MODELS)
def test_a_single_image_trains_from_the_size_that_is_said_and_no_smaller(name: str) -> None:
    spec = MODELS[name]
    for size_px in {spec.min_size_px, spec.min_size_alone_px - 1, spec.min_size_alone_px} - {spec.min_size_px - 1}:
        images = torch.randn(1, 1, size_px, size_px)
        model = build_model(name, 5, input_size_px=size_px)
        refuse_small_images_alone(name, input_size_px=size_px, step_sizes=[2, 3])
        if size_px >= spec.min_size_alone_px:
            refuse_small_images_alone(name, input_size_px=size_px, step_sizes=[2, 1])
            model(images)
            continue
        with pytest.raises(ConfigError, match=f"a single image, of {size_px} px"):
            refuse_small_images_alone(name, input_size_px=size_px, step_sizes=[2, 1])
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            model(images)


def test_small_model_is_small() -> None:
    num_params = sum(param.numel() for param in build_model("small", 14, input_size_px=64).parameters())
    assert 200_000 < num_params < 1_000_000


def test_same_seed_gives_the_same_weights() -> None:
    states = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        states.append(build_model("small", 3, input_size_px=64).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_outputs_start_near_zero() -> None:
    """Even logits: the first losses are about log 2, whatever the network's width."""
    torch.manual_seed(0)
    logits_BC = build_model("small", 14, input_size_px=64)(torch.randn(16, 1, 64, 64))
    assert logits_BC.abs().mean() < 1.5


def test_small_model_learns_a_spot_of_three_pixels() -> None:
    """Half of the noise images hold a dim 3 px spot somewhere; a few hundred of them are enough to see it."""
    draw = torch.Generator().manual_seed(0)

    def films(num: int) -> tuple[torch.Tensor, torch.Tensor]:
        images_B1HW = torch.randn(num, 1, 64, 64, generator=draw)
        targets_B1 = (torch.rand(num, 1, generator=draw) < 0.5).float()
        corners = torch.randint(4, 57, (num, 2), generator=draw).tolist()
        for image, target, (y, x) in zip(images_B1HW, targets_B1, corners, strict=True):
            image[:, y : y + 3, x : x + 3] += 3.0 * target
        return images_B1HW, targets_B1

    torch.manual_seed(0)
    model = build_model("small", 1, input_size_px=64)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    images_B1HW, targets_B1 = films(640)
    for _ in range(3):
        for batch in torch.randperm(640, generator=draw).view(20, 32):
            optimiser.zero_grad()
            loss = binary_cross_entropy_with_logits(model(images_B1HW[batch]), targets_B1[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    held_out_B1HW, targets_B1 = films(200)
    with torch.no_grad():
        logits_B1 = model.eval()(held_out_B1HW)
    positives, negatives = logits_B1[targets_B1 == 1], logits_B1[targets_B1 == 0]
    auroc = (positives[:, None] > negatives[None, :]).float().mean()
    assert auroc > 0.9
