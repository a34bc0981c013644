"""What a run thinks of its training images, beside what they are labelled: from its memory, or by asking its model.

Letters of the shapes: N rows of the pack, n training rows, C outputs.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from manifests.errors import ConfigError
from manifests.table import BoolArray
from pipeline.errors import PackError
from pipeline.loaders import open_loader
from pipeline.pack import Pack
from trainer.checkpoint import read_checkpoint
from trainer.config import TrainConfig
from trainer.data import TrainingData, open_training_data
from trainer.inference import infer
from trainer.remembered import Memory, remembered_probs
from trainer.run_folder import RunFolder
from trainer.settle import resolve_device
from trainer.trained_model import load_trained_model

Source = Literal["auto", "memory", "model"]


@dataclass(frozen=True, kw_only=True)
class Opinions:
    """Labels of the training images, and what the run thinks of them."""

    pack: Pack
    """Where the images lie."""

    findings: tuple[str, ...]
    """Names of the C columns."""

    sample_index_n: npt.NDArray[np.int64]
    """The training rows, ascending."""

    probs_nC: npt.NDArray[np.float32]
    """How likely the run takes each finding to be; NaN where it says nothing."""

    labels_nC: BoolArray
    """Which findings are labelled present."""

    mask_nC: BoolArray
    """Where there is a label and it is certain."""

    source: Literal["memory", "model"]
    """Whose opinion it is: the memory's, or that of the model, which was trained on these very labels."""

    checkpoint: Path
    """Where it was read from."""

    num_epochs: int
    """Epochs that are behind it."""


def read_opinions(
    run: Path,
    *,
    source: Source = "auto",
    device: str = "auto",
    on_step: Callable[[int, int], None] | None = None,
) -> Opinions:
    """Return what a run thinks of its training images.

    Args:
        run: its folder.
        source: `memory` as it was at the end of the last whole epoch; `model`: the newest checkpoint's model, asked
            without augmentation; `auto`: the memory where the run has one.
        device: where the model runs.
        on_step: called with (images done, images in all) while it is asked.

    Raises:
        UserError: not a run, no checkpoint yet, a memory that is not there, labels or pack that are other ones now.
    """
    folder = RunFolder(folder=run)
    config = folder.read_config()
    newest = folder.checkpoints.newest_first()
    if not newest:
        raise ConfigError(f"{run}: no checkpoint yet; go on with `cxr-train --resume --out {run}`")
    checkpoint = read_checkpoint(newest[0])
    data = _open_data(run, config)
    data.identities(model=config.model.name, input_size_px=config.model.input_size_px).check(
        checkpoint["identities"], newest[0]
    )
    has_memory = checkpoint["memory"] is not None
    if source == "memory" and not has_memory:
        raise ConfigError(f"{run}: the loss {config.loss.name} has no memory; ask the model, with --source model")
    num_epochs = int(checkpoint["cursor"]["epoch"])
    rows_n = data.train.sample_index_n
    if source == "model" or not has_memory:
        used: Literal["memory", "model"] = "model"
        probs_nC = _asked(run, newest[0], data, device, on_step)
    else:
        if num_epochs == 0:
            raise ConfigError(
                f"{run}: the memory is read at an epoch's end, and the first one has not ended; "
                f"go on with `cxr-train --resume --out {run}`"
            )
        used = "memory"
        memory = Memory(checkpoint["memory"]["previous_NC"], data.prior_C, num_epochs, config)
        probs_nC = remembered_probs(memory).numpy()[rows_n]
    targets_nC = data.train.targets_NC[rows_n]
    return Opinions(
        pack=data.pack,
        findings=data.space.findings,
        sample_index_n=rows_n,
        probs_nC=probs_nC,
        labels_nC=np.asarray(targets_nC > 0.5),
        mask_nC=np.asarray(data.train.mask_NC[rows_n] & np.isin(targets_nC, (0, 1))),
        source=used,
        checkpoint=newest[0],
        num_epochs=num_epochs,
    )


def _open_data(run: Path, config: TrainConfig) -> TrainingData:
    assert config.data.pack is not None, "settled when the run began"
    try:
        return open_training_data(
            Path(config.data.pack),
            space_name=config.data.label_space,
            prior_form=config.loss.prior_form,
            labels=None if config.data.labels is None else Path(config.data.labels),
        )
    except PackError as error:
        raise PackError(f"{error}\nthe pack that {run} was trained on must be where it was") from error


def _asked(
    run: Path, checkpoint: Path, data: TrainingData, device: str, on_step: Callable[[int, int], None] | None
) -> npt.NDArray[np.float32]:
    """Return the model's probabilities for the training rows; NaN for an image that cannot be read."""
    model = load_trained_model(run, checkpoint=str(checkpoint), device=resolve_device(device))
    rows_n = data.train.sample_index_n
    with ExitStack() as stack:
        loader = stack.enter_context(
            open_loader(
                model.config.loader, pack=data.pack, sample_index_n=rows_n, seed=0, device=model.device, rank=0,
                world_size=1,
            )
        )  # fmt: skip
        found_m, probs_mC = infer(
            model.module,
            loader,
            model.prepare,
            autocast=model.autocast,
            on_step=None if on_step is None else lambda done: on_step(done, len(rows_n)),
        )
    probs_nC = np.full((len(rows_n), len(data.space.findings)), np.nan, np.float32)
    probs_nC[np.searchsorted(rows_n, found_m)] = probs_mC
    return probs_nC
