"""A model's probabilities for a selection of images, beside the labels that they were measured against, as Parquet.

Columns: ``sample_index`` (row of the pack's manifest), ``image_id``, ``patient_id``, and for each finding
``prob_<finding>`` (float32) and ``target_<finding>`` (0 absent, 1 present, null not labelled). Every number of
metrics.json can be computed again from this file alone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from manifests.atomic import atomic_path
from manifests.errors import ConfigError

PROB, TARGET = "prob_", "target_"

MADE_BY = b"made_by"
"""Key of the file's metadata: JSON of the model that made the predictions."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Probabilities and labels of n images for C findings."""

    findings: tuple[str, ...]
    """Names of the C columns."""

    sample_index_n: NDArray[np.int64]
    """Row of the pack's manifest of each image."""

    image_id_n: list[str]
    """Name of each image in its dataset."""

    patient_id_n: list[str]
    """Patient of each image, with the dataset's name before it."""

    probs_nC: NDArray[np.float32]
    """The model's probabilities."""

    targets_nC: NDArray[np.float32]
    """1 present, 0 absent; 0 where the mask is False."""

    mask_nC: NDArray[np.bool_]
    """False where an image has no label of a finding."""

    def write(self, path: Path, made_by: Mapping[str, str] | None = None) -> None:
        """Write the table, whole or not at all; `made_by` says which model made them, for `predictions_made_by`."""
        columns: dict[str, pa.Array] = {
            "sample_index": pa.array(self.sample_index_n, pa.int64()),
            "image_id": pa.array(self.image_id_n, pa.string()),
            "patient_id": pa.array(self.patient_id_n, pa.string()),
        }
        for column, name in enumerate(self.findings):
            columns[PROB + name] = pa.array(self.probs_nC[:, column], pa.float32())
            columns[TARGET + name] = pa.array(
                self.targets_nC[:, column].astype(np.int8), pa.int8(), mask=~self.mask_nC[:, column]
            )
        table = pa.table(columns)
        if made_by is not None:
            table = table.replace_schema_metadata({MADE_BY: json.dumps(dict(made_by), sort_keys=True)})
        with atomic_path(path) as temporary:
            pq.write_table(table, temporary)


def read_predictions(path: Path) -> Predictions:
    """Read what `Predictions.write` wrote.

    Raises:
        ConfigError: not such a file.
    """
    try:
        table = pq.read_table(path)
        findings = tuple(name.removeprefix(PROB) for name in table.column_names if name.startswith(PROB))
        targets = [table[TARGET + name] for name in findings]
        return Predictions(
            findings=findings,
            sample_index_n=table["sample_index"].to_numpy(),
            image_id_n=table["image_id"].to_pylist(),
            patient_id_n=table["patient_id"].to_pylist(),
            probs_nC=_stack([table[PROB + name].to_numpy() for name in findings], table.num_rows).astype(np.float32),
            targets_nC=_stack([t.fill_null(0).to_numpy() for t in targets], table.num_rows).astype(np.float32),
            mask_nC=_stack([t.is_valid().to_numpy() for t in targets], table.num_rows).astype(np.bool_),
        )
    except (pa.ArrowException, KeyError) as error:
        raise ConfigError(f"{path}: no table of predictions ({error}); `cxr-train evaluate` writes it anew") from error


def predictions_made_by(path: Path) -> dict[str, str]:
    """Return what `Predictions.write` was told about the model; empty where that is not known, or there is no file."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        found: dict[str, str] = json.loads(metadata.get(MADE_BY, b"{}"))
    except (OSError, pa.ArrowException, ValueError):
        return {}
    return found


def predictions_file(*, dataset: str, pack: str | None, split: str, labels: str, checkpoint: str) -> str:
    """Return the name of the file: what is usual (the run's pack, its labels, the best checkpoint) is not in it."""
    parts = ["predictions", dataset, split]
    parts += [pack] if pack is not None else []
    parts += [labels] if labels != "pack" else []
    parts += [checkpoint] if checkpoint != "best" else []
    return "-".join(parts) + ".parquet"


def _stack(columns: list[np.ndarray], num_rows: int) -> np.ndarray:
    return np.stack(columns, axis=1) if columns else np.zeros((num_rows, 0))
