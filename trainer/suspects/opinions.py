"""What a run thinks of its training images, beside what they are labelled: from its memory, or by asking its model.

Letters of the shapes: N rows of the pack, n training rows, C outputs.
"""

from collections.abc import Callable
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
from trainer.trained_model import TrainedModel, load_trained_model

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
        source: `memory` as it was at the end of the last whole epoch; `model`: that of the best epoch on validation,
            asked without augmentation; `auto`: the memory where the run has one.
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
    used: Literal["memory", "model"] = "memory" if has_memory and source != "model" else "model"
    rows_n, path = data.train.sample_index_n, newest[0]
    if used == "model":
        model = load_trained_model(run, device=resolve_device(device))
        path, num_epochs = model.checkpoint, int(read_checkpoint(model.checkpoint)["cursor"]["epoch"])
        probs_nC = ask_model(model, data.pack, rows_n, on_step)
    else:
        num_epochs = int(checkpoint["cursor"]["epoch"])
        if num_epochs == 0:
            raise ConfigError(
                f"{run}: the memory is read at an epoch's end, and the first one has not ended; "
                f"go on with `cxr-train --resume --out {run}`"
            )
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
        checkpoint=path,
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


def ask_model(
    model: TrainedModel,
    pack: Pack,
    sample_index_n: npt.NDArray[np.int64],
    on_step: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Return float32 [n, C]: a model's probabilities for some rows of a pack; NaN for an image that cannot be read."""
    with open_loader(
        model.config.loader, pack=pack, sample_index_n=sample_index_n, seed=0, device=model.device
    ) as loader:
        found_m, probs_mC = infer(
            model.module,
            loader,
            model.prepare,
            autocast=model.autocast,
            on_step=None if on_step is None else lambda done: on_step(done, len(sample_index_n)),
        )
    probs_nC = np.full((len(sample_index_n), len(model.space.findings)), np.nan, np.float32)
    probs_nC[np.searchsorted(sample_index_n, found_m)] = probs_mC
    return probs_nC
