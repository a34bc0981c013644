"""The manifest of a made-up dataset: six images of three patients, two findings with every kind of label."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.findings import FINDINGS
from manifests.schema import METADATA_KEY, SCHEMA_VERSION

TOY_LABELS: dict[str, list[int | None]] = {
    "Pneumothorax": [1, 0, None, -1, 0, 1],
    "Support Devices": [1, 1, 0, 0, None, 0],
}
NUM_TOY = 6


def make_toy(
    path: Path, *, dataset: str = "toy", labels: dict[str, list[int | None]] = TOY_LABELS, **changed: list[Any]
) -> Path:
    """Write a manifest of another dataset, six images of three patients, and return its path."""
    columns: dict[str, pa.Array] = {
        "dataset": pa.array([dataset] * NUM_TOY),
        "image_id": pa.array([f"t{row}" for row in range(NUM_TOY)]),
        "path": pa.array([f"img/t{row}.png" for row in range(NUM_TOY)]),
        "patient_id": pa.array([f"{dataset}:{1 + row // 2}" for row in range(NUM_TOY)]),
        "study_id": pa.array([f"s{row}" for row in range(NUM_TOY)]),
        "view": pa.array(["PA"] * NUM_TOY),
        "sex": pa.nulls(NUM_TOY, pa.string()),
        "age_years": pa.nulls(NUM_TOY, pa.float32()),
        "split": pa.array(["train", "train", "valid", "valid", "test", "test"]),
        "width": pa.nulls(NUM_TOY, pa.int32()),
        "height": pa.nulls(NUM_TOY, pa.int32()),
    }
    columns |= {name: pa.array(values) for name, values in changed.items()}
    columns |= {name: pa.array(labels[name], pa.int8()) for name in FINDINGS if name in labels}
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "dataset": dataset,
        "labelled": {dataset: list(labels)},
        "sources": [{"file": "toy.csv", "sha256": "0" * 64}],
        "counts": {"images": NUM_TOY},
        "exclusions": {"too_small": 2},
        "exclusion_meanings": {"too_small": "images that are too small"},
    }
    pq.write_table(pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(metadata)}), path)
    return path
