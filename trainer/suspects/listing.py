"""The list of suspected labels: one row a label, a finding at a time, the most suspicious first; Parquet and CSV.

Columns: finding, side, rank (within finding and side, from 1), rank_in_finding (both sides together), dataset,
image_id, patient_id, sample_index, label (1 or 0, as trained on), probability (the run's, the prior put back),
suspicion, and with clean labels is_wrong (null where the truth is not known).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from manifests.atomic import atomic_path
from manifests.errors import ConfigError
from manifests.table import BoolArray
from trainer.suspects.opinions import Opinions
from trainer.suspects.scores import Floats, most_suspicious

Side = Literal["labelled, not seen", "seen, not labelled"]

SIDES: tuple[Side, ...] = ("labelled, not seen", "seen, not labelled")
"""The label says "present" and the run does not see it; or the other way round."""


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """One suspected label."""

    finding: str
    side: Side
    rank: int
    rank_in_finding: int
    dataset: str
    image_id: str
    patient_id: str
    sample_index: int
    label: int
    probability: float
    suspicion: float
    is_wrong: bool | None


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Clean labels of the training rows."""

    is_wrong_nC: BoolArray
    """Which labels are wrong."""

    known_nC: BoolArray
    """Where that is known."""


def list_suspects(
    opinions: Opinions,
    probs_nC: Floats,
    suspicion_nC: Floats,
    *,
    findings: Sequence[str],
    top: int,
    truth: Truth | None,
) -> list[Suspect]:
    """Return the `top` most suspicious labels of each finding and side.

    Args:
        opinions: images and labels.
        probs_nC: probabilities with the prior put back.
        suspicion_nC: of each label; NaN: it is not listed.
        findings: which, in this order.
        top: how many, at most.
        truth: which labels are wrong; None: nobody knows.
    """
    names = opinions.pack.manifest().table.select(["dataset", "image_id", "patient_id"])
    found = []
    for finding in findings:
        column = opinions.findings.index(finding)
        order = most_suspicious(suspicion_nC[:, column])
        place_n = np.empty(len(opinions.sample_index_n), np.int64)
        place_n[order] = np.arange(1, len(order) + 1)
        is_present = opinions.labels_nC[order, column]
        for side, chosen in zip(SIDES, (order[is_present], order[~is_present]), strict=True):
            rows = names.take(opinions.sample_index_n[chosen[:top]]).to_pylist()
            for rank, (position, row) in enumerate(zip(chosen[:top].tolist(), rows, strict=True), start=1):
                is_known = truth is not None and bool(truth.known_nC[position, column])
                found.append(
                    Suspect(
                        finding=finding,
                        side=side,
                        rank=rank,
                        rank_in_finding=int(place_n[position]),
                        dataset=row["dataset"],
                        image_id=row["image_id"],
                        patient_id=row["patient_id"],
                        sample_index=int(opinions.sample_index_n[position]),
                        label=int(opinions.labels_nC[position, column]),
                        probability=float(probs_nC[position, column]),
                        suspicion=float(suspicion_nC[position, column]),
                        is_wrong=bool(truth.is_wrong_nC[position, column]) if truth is not None and is_known else None,
                    )
                )
    return found


def write_tables(folder: Path, suspects: Sequence[Suspect], *, with_truth: bool) -> tuple[Path, Path]:
    """Write ``suspects.parquet`` and ``suspects.csv`` into a run's folder; return both paths.

    Raises:
        ConfigError: one cannot be written.
    """
    types: dict[str, pa.DataType] = {
        "finding": pa.string(), "side": pa.string(), "rank": pa.int32(), "rank_in_finding": pa.int32(),
        "dataset": pa.string(), "image_id": pa.string(), "patient_id": pa.string(), "sample_index": pa.int64(),
        "label": pa.int8(), "probability": pa.float32(), "suspicion": pa.float32(), "is_wrong": pa.bool_(),
    }  # fmt: skip
    if not with_truth:
        del types["is_wrong"]
    table = pa.table({name: pa.array([vars(row)[name] for row in suspects], kind) for name, kind in types.items()})
    parquet, csv = folder / "suspects.parquet", folder / "suspects.csv"
    try:
        with atomic_path(parquet) as temporary:
            pq.write_table(table, temporary)
        with atomic_path(csv) as temporary:
            pyarrow.csv.write_csv(table, temporary)
    except OSError as error:
        raise ConfigError(f"{folder}: suspects.parquet and .csv cannot be written ({error})") from error
    return parquet, csv


def rows_of(suspects: Sequence[Suspect], finding: str, side: Side) -> list[Suspect]:
    """Return the suspects of one finding and side, in order."""
    return [row for row in suspects if row.finding == finding and row.side == side]
