"""Probabilities of a whole selection, in its order: validation during training and evaluation afterwards.

Shapes: B batch, n rows of the selection, C outputs of the label space, H and W the pack's size, h and w the model's.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn

from pipeline.loaders import Loader

Prepare = Callable[[torch.Tensor], torch.Tensor]
"""uint8 [B, 1, H, W] -> float [B, 1, h, w]: what the model sees of an image that is not augmented."""


def infer(
    module: nn.Module,
    loader: Loader,
    prepare: Prepare,
    *,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    on_step: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the manifest that the loader gave and the module's probabilities for them.

    The module is in evaluation mode meanwhile and gets its mode back. Results stay on the device until the end, so the
    host waits once. Rows with index -1 (a sample that could not be read) are left out. Nothing draws a random number.

    Args:
        module: [B, 1, h, w] -> logits [B, C].
        loader: gives each sample of its selection once, in order, through `ordered_batches`.
        prepare: from the loader's images to the module's.
        autocast: makes the context in which the module runs; logits become float32 before the sigmoid.
        on_step: called after each batch with the number of samples so far; may raise to stop.

    Returns:
        ``(sample_index_n, probs_nC)``: int64 [n] and float32 [n, C].
    """
    index: list[torch.Tensor] = []
    probs: list[torch.Tensor] = []
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            for loaded in loader.ordered_batches():
                images_B1hw = prepare(loaded.batch.images_B1HW)
                with autocast():
                    logits_BC = module(images_B1hw)
                probs.append(logits_BC.float().sigmoid())
                # A loader may reuse its buffers: what is kept is copied.
                index.append(loaded.batch.sample_index_B.clone())
                if on_step is not None:
                    on_step(loaded.consumed)
    finally:
        module.train(was_training)
    if not index:
        raise ValueError("infer: the loader gave no batch; an empty selection is refused before")
    sample_index_n = torch.cat(index).cpu().numpy()
    counted_n = sample_index_n >= 0
    return sample_index_n[counted_n], torch.cat(probs).cpu().numpy()[counted_n]
