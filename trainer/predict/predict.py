"""From image files to a table of probabilities.

Shapes: N files, n of them readable, C outputs.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from manifests.errors import ConfigError
from pipeline.packing import kernels
from pipeline.packing.pixels import PIXEL_RULE
from trainer.export.from_run import model_of_run
from trainer.export.image_model import ImageModel
from trainer.export.load import is_exported, load_exported
from trainer.predict.decode import decoded_chunks
from trainer.predict.image_files import ImageFiles
from trainer.predict.table import (
    RejectedFile,
    refuse_unwritable,
    table_of,
    thresholds_of,
    with_calls,
    write_rejected,
    write_table,
)
from trainer.run_folder import RunFolder
from trainer.settle import resolve_device


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """What is asked, and how."""

    model: Path
    """Folder of a run, or of an exported model, or its .safetensors file."""

    checkpoint: str | None = None
    """Of a run: `best` (None), `last`, or the path of a checkpoint."""

    out: Path = Path("predictions.csv")
    """Table: .csv or .parquet."""

    batch_size: int = 32
    """Images of a forward pass; also of a chunk that is decoded by one process."""

    num_workers: int = 1
    """Processes that decode; 1: this one."""

    device: str = "auto"
    """Where the model runs."""

    thresholds: bool = False
    """Whether the table also says which findings reach their threshold."""

    def __post_init__(self) -> None:
        if self.num_workers < 1 or self.batch_size < 1:
            raise ConfigError(f"--workers {self.num_workers}, --batch-size {self.batch_size}: expected 1 or more")


@dataclass(frozen=True, kw_only=True)
class PredictReport:
    """What came of it."""

    num_files: int
    """N."""

    num_predicted: int
    """n: rows of the table."""

    rejected_by_reason: dict[str, int]
    """Reason -> files without probabilities, the most frequent first."""

    rejected: Path | None
    """Where those are listed; None: there are none."""

    notes: tuple[str, ...]
    """What a reader of the numbers must know."""


def predict(
    config: PredictConfig, images: ImageFiles, on_step: Callable[[int, int], None] = lambda done, total: None
) -> PredictReport:
    """Write the probabilities of the files, in their order, and beside them a list of those that cannot be read.

    The pixels are those that packing would give, so are the probabilities those of `cxr-train evaluate` over a pack of
    the same images, to the bit where batches hold the same images. Memory holds a few chunks, however many files.

    Args:
        config: what is asked of which model.
        images: the files.
        on_step: called with (files done, files in all).

    Raises:
        UserError: no such model, a table that cannot be written, thresholds that were never chosen.
    """
    refuse_unwritable(config.out)
    model = open_model(config.model, checkpoint=config.checkpoint, device=config.device)
    about = model.description
    thresholds = thresholds_of(about) if config.thresholds else None
    probs_NC = np.full((len(images.files), len(about.findings)), np.nan, np.float32)
    rejected: list[RejectedFile] = []
    done = 0
    chunks = decoded_chunks(
        images.files, about.preprocessing, chunk_size=config.batch_size, num_workers=config.num_workers
    )
    with closing(chunks):
        for chunk in chunks:
            if len(chunk.position_n):
                probs_nC = model.probs(torch.from_numpy(chunk.images_nHW)[:, None])
                probs_NC[chunk.position_n] = probs_nC.cpu().numpy()
            rejected += [
                RejectedFile(position=image.sample_index, reason=image.reason, detail=image.detail)
                for image in chunk.rejected
            ]
            done += chunk.num_files
            on_step(done, len(images.files))
    rejected.sort(key=lambda file: file.position)
    is_predicted_N = np.ones(len(images.files), np.bool_)
    is_predicted_N[[file.position for file in rejected]] = False
    position_n = np.flatnonzero(is_predicted_N)
    table = table_of(images, position_n, probs_NC[position_n], about.findings)
    write_table(config.out, table if thresholds is None else with_calls(table, about.findings, thresholds))
    return PredictReport(
        num_files=len(images.files),
        num_predicted=len(position_n),
        rejected_by_reason=dict(Counter(file.reason for file in rejected).most_common()),
        rejected=write_rejected(config.out, images, rejected),
        notes=tuple(_notes(model, images, probs_NC[position_n])),
    )


def open_model(path: Path, *, checkpoint: str | None, device: str) -> ImageModel:
    """Return the model of a run, or an exported one.

    Raises:
        ConfigError: neither is there; or a checkpoint of an exported model, which has only one.
    """
    where = resolve_device(device)
    if is_exported(path):
        if checkpoint is not None:
            raise ConfigError(f"--checkpoint {checkpoint}: {path} is an exported model, which has one state only")
        return load_exported(path, device=where)
    if not RunFolder(folder=path).checkpoints.folder.is_dir():
        what = "no such file or folder" if not path.exists() else "neither a run nor an exported model"
        raise ConfigError(
            f"--run {path}: {what}; expected the folder of a run (`cxr-train --out DIR` makes one) or what "
            "`cxr-train export` wrote"
        )
    return model_of_run(path, checkpoint=checkpoint or "best", device=where)


def _notes(model: ImageModel, images: ImageFiles, probs_nC: np.ndarray) -> list[str]:
    """Return what a reader of the numbers must know."""
    notes = []
    if images.num_repeated:
        notes.append(f"{images.num_repeated:,} files were named more than once; each is predicted once")
    rule = model.description.preprocessing.pixel_rule
    if rule != PIXEL_RULE:
        notes.append(
            f"the model was trained on pixels of rule {rule}, and this version decodes by rule {PIXEL_RULE}: pixels of "
            "some files differ"
        )
    if kernels.library is None:
        notes.append(kernels.MISSING)
    if not np.isfinite(probs_nC).all():
        num = int((~np.isfinite(probs_nC)).any(axis=1).sum())
        notes.append(f"{num:,} files have a probability that is not finite: the weights are broken")
    return notes
