"""Probabilities of a trained model for rows of a pack."""

from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from pipeline.loaders import LoaderConfig, open_loader
from pipeline.pack import Pack
from trainer.distributed import ALONE, Ranks
from trainer.inference import infer
from trainer.trained_model import TrainedModel


def infer_rows(
    model: TrainedModel,
    pack: Pack,
    sample_index_n: NDArray[np.int64],
    loader_config: LoaderConfig,
    *,
    on_step: Callable[[int, int], None] | None = None,
    ranks: Ranks = ALONE,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(sample_index_n, probs_nC)`` as `trainer.inference.infer`, for the given rows of a pack.

    Args:
        model: what infers, on its device.
        pack: where the images are.
        sample_index_n: int64 [n], ascending: which of them.
        loader_config: how they are read.
        on_step: called with (images done, images in all) after every batch.
        ranks: the processes that share the rows; all of them call this.

    Raises:
        UserError: the loader cannot be opened.
    """
    num_images = len(sample_index_n)
    with ExitStack() as stack:
        with ranks.together():
            loader = stack.enter_context(
                open_loader(
                    loader_config,
                    pack=pack,
                    sample_index_n=sample_index_n,
                    seed=0,
                    device=model.device,
                    rank=ranks.rank,
                    world_size=ranks.world_size,
                )
            )
        return infer(
            model.module,
            loader,
            model.prepare,
            autocast=model.autocast,
            on_step=None if on_step is None else lambda done: on_step(done, num_images),
            ranks=ranks,
        )
