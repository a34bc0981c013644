"""Probabilities of a whole selection, in its order: validation during training and evaluation afterwards.

Several ranks each infer their share of it, and rank 0 gathers the shares.

Shapes: B batch, n rows of the selection, C outputs of the label space, H and W the pack's size, h and w the model's.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn

from pipeline.loaders import Loader
from trainer.distributed import ALONE, Ranks

Prepare = Callable[[torch.Tensor], torch.Tensor]
"""uint8 [B, 1, H, W] -> float [B, 1, h, w]: what the model sees of an image that is not augmented."""


def infer(
    module: nn.Module,
    loader: Loader,
    prepare: Prepare,
    *,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    on_step: Callable[[int], None] | None = None,
    ranks: Ranks = ALONE,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the manifest that the loader gave and the module's probabilities for them.

    With several ranks, all of which call this, rank 0 returns those of all of them and the others nothing.

    The module is in evaluation mode meanwhile and gets its mode back. Results stay on the device until the end, so the
    host waits once. Rows with index -1 (a sample that could not be read) are left out. Nothing draws a random number.

    Args:
        module: [B, 1, h, w] -> logits [B, C].
        loader: gives each sample of its selection once, in order, through `ordered_batches`.
        prepare: from the loader's images to the module's.
        autocast: makes the context in which the module runs; logits become float32 before the sigmoid.
        on_step: called after each batch with the number of samples so far, over all ranks; may raise to stop.
        ranks: the processes that share the loader's selection.

    Returns:
        ``(sample_index_n, probs_nC)``: int64 [n] and float32 [n, C], in ascending order of the rows; n is 0 on all
        ranks but the first.
    """
    index: list[torch.Tensor] = []
    probs: list[torch.Tensor] = []
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            for loaded in loader.ordered_batches():
                if len(loaded.batch.sample_index_B):
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
    share = (torch.cat(index).cpu().numpy(), torch.cat(probs).cpu().numpy()) if index else None
    return _gathered(share, ranks)


def _gathered(share: tuple[np.ndarray, np.ndarray] | None, ranks: Ranks) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of all ranks as one on rank 0, by ascending row, each row once; nothing on the others."""
    shares = [found for found in ranks.gather_first(share) if found is not None]
    if not ranks.is_first:
        return np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
    if not shares:
        raise ValueError("infer: the loader gave no batch; an empty selection is refused before")
    sample_index_n, probs_nC = (np.concatenate(parts) for parts in zip(*shares, strict=True))
    order_n = np.argsort(sample_index_n, kind="stable")
    order_n = order_n[sample_index_n[order_n] >= 0]
    sample_index_n = sample_index_n[order_n]
    assert (np.diff(sample_index_n) > 0).all(), "a row was inferred twice"
    return sample_index_n, probs_nC[order_n]
