"""Features that are computed again: the same to the bit, and less kept meanwhile."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from trainer.models.registry import MODELS, build_model


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@contextmanager
def bytes_kept(model: nn.Module) -> Iterator[list[int]]:
    """Count, into the list's only item, what autograd keeps beside the weights."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    seen: dict[int, torch.Tensor] = {}
    count = [0]

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and storage.data_ptr() not in seen:
            seen[storage.data_ptr()] = tensor
            count[0] += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield count


@pytest.mark.parametrize(("name", "share"), [("densenet121", 0.6), ("small", 0.9)])
def test_gradients_and_statistics_are_the_same_bits_and_less_is_kept(name: str, share: float) -> None:
    torch.manual_seed(0)
    plain = build_model(name, 3, input_size_px=64)
    again = build_model(name, 3, input_size_px=64, recompute=True)
    again.load_state_dict(plain.state_dict())
    images_B1HW = torch.randn(2, 1, 64, 64)
    kept = []
    for model in (plain, again):
        for _ in range(2):  # statistics that moved twice a step would differ after the second
            with bytes_kept(model) as count:
                logits_BC = model(images_B1HW)
            logits_BC.square().sum().backward()
        kept.append(count[0])
    assert kept[1] < share * kept[0]
    for (key, one), other in zip(plain.named_parameters(), again.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad), key
    buffers = dict(again.named_buffers())
    assert [key for key, value in plain.named_buffers() if not torch.equal(value, buffers[key])] == []


@pytest.mark.parametrize("name", MODELS)
def test_a_copy_computes_again_with_its_own_weights(name: str) -> None:
    """What is computed again belongs to the module and not to the one that it was copied from: a teacher's, say."""
    model = build_model(name, 3, input_size_px=32, recompute=True)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for param in model.parameters():
            param.zero_()
    images_B1HW = torch.randn(2, 1, 32, 32)
    other(images_B1HW).square().sum().backward()
    stem = next(other.parameters())
    assert stem.grad is not None
    assert bool(stem.grad.any())
    assert all(param.grad is None for param in model.parameters())
