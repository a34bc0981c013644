"""How much memory a training step needs, with the arithmetic, before anything is allocated.

Shapes in names: N rows of the pack, C outputs, B images of a batch, b of the part of it that is computed at once; h, w
the model's size.
"""

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainer.config import TrainConfig
from trainer.methods import METHODS
from trainer.models.registry import build_model
from trainer.precision import AUTOCAST_TYPES, resolve_precision
from trainer.step import part_sizes

FLOAT_BYTES = 4


class Need(NamedTuple):
    """One thing that takes memory on the device."""

    what: str
    num_bytes: int
    arithmetic: str


def memory_needs(config: TrainConfig, *, num_rows: int, num_outputs: int, pack_image_bytes: int) -> list[Need]:
    """Return what a step keeps on its device, the largest part of it measured on a device without memory.

    Not in it: workspaces of convolutions, what the allocator leaves between, CUDA's own share.

    Args:
        config: resolved.
        num_rows: N.
        num_outputs: C.
        pack_image_bytes: of one image as the loader gives it.
    """
    precision = resolve_precision(config.step.precision, torch.device(config.run.device))
    dtype = AUTOCAST_TYPES.get(precision, torch.float32)
    model, batch_size = _model(config, num_outputs), config.loader.batch_size
    num_params = sum(param.numel() for param in model.parameters())
    num_buffers = sum(buffer.numel() for buffer in model.buffers())
    times = {"adam": 2, "adamw": 2, "sgd": 1 if config.optim.momentum else 0}[config.optim.name]
    needs = [
        _floats("weights", num_params, f"{num_params:,} parameters"),
        _floats("gradients", num_params, f"{num_params:,} parameters"),
        _floats(f"optimiser ({config.optim.name})", times * num_params, f"{times} x {num_params:,} parameters"),
    ]
    if config.has_teacher:
        needs.append(
            _floats("teacher", num_params + num_buffers, f"{num_params:,} parameters and {num_buffers:,} statistics")
        )
    if dtype != torch.float32:
        needs.append(Need(f"weights in {precision}", 2 * num_params, f"{num_params:,} parameters x 2 bytes"))
    columns = METHODS[config.loss.name].memory_columns * num_outputs
    if columns:
        arithmetic = f"2 x {num_rows:,} rows x {columns} x 4 bytes, a mark a row"
        needs.append(Need(f"memory of {config.loss.name}", num_rows * (2 * columns * FLOAT_BYTES + 1), arithmetic))
    needs.append(
        Need("labels", num_rows * num_outputs * (FLOAT_BYTES + 1), f"{num_rows:,} rows x {num_outputs} x (4 + 1) bytes")
    )
    if config.loader.backend == "resident":
        needs.append(Need("the pack", num_rows * pack_image_bytes, f"{num_rows:,} images x {pack_image_bytes:,} bytes"))
    size_px = config.model.input_size_px
    image_bytes = pack_image_bytes + FLOAT_BYTES * size_px**2
    arithmetic = f"{batch_size} x ({pack_image_bytes:,} bytes + {size_px} x {size_px} x 4 bytes)"
    needs.append(Need("images", batch_size * image_bytes, arithmetic))

    num_images = next(part_sizes(batch_size, config.step.accumulate))
    features = peak_bytes(
        model.to(dtype), torch.zeros(num_images, 1, size_px, size_px, dtype=dtype, device="meta"), config.has_teacher
    )
    arithmetic = f"{num_images} images at the peak of forward and backward pass, {features // num_images:,} bytes each"
    return [*needs, Need("features", features, arithmetic)]


def peak_bytes(model: nn.Module, images_b1hw: torch.Tensor, has_teacher: bool = False) -> int:
    """Return the most memory that features and their gradients take at once in a forward and a backward pass.

    Weights, their gradients and the images are not in it. On the device "meta" nothing is computed or allocated.

    Args:
        model: a network in train mode.
        images_b1hw: where the model is, in its type.
        has_teacher: whether a network like it looks at the images between the two passes, keeping nothing.
    """
    watch = _Watch(tensor.untyped_storage() for tensor in (*model.parameters(), *model.buffers(), images_b1hw))
    with watch:
        logits_BC = model(images_b1hw)
        if has_teacher:
            with torch.no_grad():
                model(images_b1hw)
        logits_BC.float().sum().backward()
    of_weights = sum(param.grad.untyped_storage().nbytes() for param in model.parameters() if param.grad is not None)
    return max(watch.peak_bytes - of_weights, 0)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that operators make, until the last tensor lets go of them."""

    def __init__(self, known: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = list(known)  # held, so that no other storage gets their place
        self._alive = {id(storage) for storage in self._known}
        self._num_bytes = 0
        self.peak_bytes = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, num_bytes = id(storage), storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        self._num_bytes += num_bytes
        self.peak_bytes = max(self.peak_bytes, self._num_bytes)
        weakref.finalize(storage, self._forget, key, num_bytes)

    def _forget(self, key: int, num_bytes: int) -> None:
        self._alive.discard(key)
        self._num_bytes -= num_bytes


def _model(config: TrainConfig, num_outputs: int) -> nn.Module:
    model = config.model
    with torch.device("meta"):
        return build_model(
            model.name,
            num_outputs,
            input_size_px=model.input_size_px,
            channels_last=model.channels_last,
            recompute=model.recompute,
        )


def _floats(what: str, number: int, arithmetic: str) -> Need:
    return Need(what, FLOAT_BYTES * number, f"{arithmetic} x 4 bytes")
