"""ROC and precision-recall curves of a file of predictions, as panels of a figure."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.metrics import ranked_counts
from trainer.evaluation.predictions import Predictions
from trainer.report.figures import Line, Panel

GRID = 400
"""Curves are thinned to a grid of so many steps: finer than a pixel of their panels."""


def curve_panels(predictions: Predictions, entries: Mapping[str, Mapping[str, Any]]) -> tuple[list[Panel], list[Panel]]:
    """Return one ROC panel and one precision-recall panel for every finding that has both classes.

    Args:
        predictions: probabilities and labels.
        entries: finding -> its entry of metrics.json, for the numbers in the corners.
    """
    roc, precision_recall = [], []
    counts = ranked_counts(predictions.probs_nC, predictions.targets_nC, predictions.mask_nC)
    for column, name in enumerate(predictions.findings):
        entry = entries.get(name, {})
        if entry.get("auroc") is None:
            continue
        at_threshold = counts.threshold_NC[:, column]
        true = counts.true_positives_NC[at_threshold, column]
        false = counts.false_positives_NC[at_threshold, column]
        recall, fall_out = true / true[-1], false / false[-1]
        precision = true / np.maximum(true + false, 1)
        title = name.replace("_", " ")
        x, y = thinned(np.r_[0, fall_out], np.r_[0, recall])
        chance = Line(x=(0, 1), y=(0, 1), role="rule", dashed=True, width=1)
        roc.append(Panel(title=title, lines=[chance, Line(x=x, y=y)], note=_short(entry["auroc"]), unit_square=True))
        x, y = thinned(recall, precision)
        prevalence = true[-1] / (true[-1] + false[-1])
        chance = Line(x=(0, 1), y=(prevalence, prevalence), role="rule", dashed=True, width=1)
        precision_recall.append(
            Panel(
                title=title,
                lines=[chance, Line(x=x, y=y, role="second")],
                note=_short(entry["average_precision"]),
                note_corner="lower left" if entry["average_precision"] > 0.5 else "upper right",
                unit_square=True,
            )
        )
    return roc, precision_recall


def thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the curve without points that fall on the same cell of the grid as the point before; ends stay."""
    cell = np.round(np.stack([x, y]) * GRID)
    moved = np.r_[True, (cell[:, 1:] != cell[:, :-1]).any(axis=0)]
    moved[-1] = True
    return x[moved], y[moved]


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
