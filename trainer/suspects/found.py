"""How many wrong labels a ranking finds, told by clean labels.

Letters of the shapes: n training rows, C outputs.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from manifests.findings import NO_FINDING
from manifests.table import BoolArray
from trainer.evaluation.metrics import mean_of, measure
from trainer.suspects.scores import Floats, image_suspicion, most_suspicious

SHARES = (0.01, 0.05, 0.1)
"""Shares of the images that are read again."""


@dataclass(frozen=True, kw_only=True)
class FindingFound:
    """How well wrong labels of one finding are found."""

    finding: str
    labels: int
    """Labels whose truth is known."""

    wrong: int
    """Of those, wrong ones."""

    auroc: float | None
    """Of the suspicion against being wrong; None where all labels are wrong, or none."""

    precision: dict[str, float | None]
    """Share of the labels that is read again, the most suspicious ones -> how many of them are wrong, as a share."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """How well wrong labels are found."""

    findings: tuple[FindingFound, ...]
    mean_auroc: float | None
    """Over the findings with a value, without No Finding."""

    wrong: int
    """Wrong labels of all findings but No Finding."""

    images: int
    """Images with a label whose truth is known."""

    found: dict[str, int]
    """Share of the images that is read again, all of their findings -> wrong labels that are found."""

    by_chance: dict[str, float]
    """The same for as many images that are drawn at random: expected number."""

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


def found(suspicion_nC: Floats, is_wrong_nC: BoolArray, known_nC: BoolArray, findings: tuple[str, ...]) -> Found:
    """Return how well wrong labels are found by reading the most suspicious ones, or images, first.

    Args:
        suspicion_nC: NaN where there is no label or no opinion: such a label is read last.
        is_wrong_nC: which labels are wrong.
        known_nC: where that is known; only these labels, and images that have one, are read and counted.
        findings: names of the C columns.
    """
    scores_nC = np.where(known_nC, np.nan_to_num(suspicion_nC, nan=-1.0), np.nan)
    metrics = measure(np.where(known_nC, scores_nC, 0), is_wrong_nC.astype(np.float64), known_nC, findings)
    by_finding = []
    for column, (name, entry) in enumerate(zip(findings, metrics.findings, strict=True)):
        order = most_suspicious(scores_nC[:, column])
        wrong_in_order = is_wrong_nC[order, column]
        by_finding.append(
            FindingFound(
                finding=name,
                labels=len(order),
                wrong=int(wrong_in_order.sum()),
                auroc=entry.auroc,
                precision={
                    str(share): float(wrong_in_order[: num_read(share, len(order))].mean()) if len(order) else None
                    for share in SHARES
                },
            )
        )
    counts_C = np.array([name != NO_FINDING for name in findings])
    wrong_n = (is_wrong_nC & known_nC)[:, counts_C].sum(axis=1)
    of_images_n = np.where(known_nC.any(axis=1), image_suspicion(suspicion_nC, findings), np.nan)
    order = most_suspicious(of_images_n)
    return Found(
        findings=tuple(by_finding),
        mean_auroc=mean_of([entry.auroc for entry in by_finding if entry.finding != NO_FINDING]),
        wrong=int(wrong_n.sum()),
        images=len(order),
        found={str(share): int(wrong_n[order[: num_read(share, len(order))]].sum()) for share in SHARES},
        by_chance={
            str(share): int(wrong_n.sum()) * num_read(share, len(order)) / max(len(order), 1) for share in SHARES
        },
    )


def num_read(share: float, num: int) -> int:
    """Return how many of `num` are a share of them, rounded, at least one."""
    return max(1, round(share * num))
