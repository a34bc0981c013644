"""Curves over the epochs, a small plot a method, the baseline behind each: validation, truth, what was memorised."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.compare.plan import Plan
from trainer.compare.results import RunResult
from trainer.report.figures import EPOCH_LABEL, Line, Panel, panel_grid
from trainer.report.page import card, heading, paragraph

COLUMNS = 4

Series = Callable[[RunResult], list[float]]


def curves_section(plan: Plan, results: Sequence[RunResult]) -> str:
    """Return the curves as HTML; nothing where no run has two epochs."""
    validation = _figure(plan, results, _validation, "Mean AUROC on validation over the epochs, a plot a method")
    if validation is None:
        return ""
    parts = [
        heading("Over the epochs"),
        paragraph(
            "Mean AUROC on validation, with the labels that were trained on: thin lines are seeds, the thick one is "
            f"their mean, and the dashed one behind is the mean of {plan.baseline}."
        ),
        card(validation),
    ]
    for series, label, text in LABORATORY:
        figure = _figure(plan, results, series, label)
        parts += [paragraph(text), card(figure)] if figure is not None else []
    return "\n".join(parts)


def _validation(result: RunResult) -> list[float]:
    return [_number(event.get("valid_mean_auroc")) for event in result.epochs]


def _clean_auroc(result: RunResult) -> list[float]:
    return [_number(event.get("model_mean_auroc")) for event in result.memorisation]


def _wrong_fitted(result: RunResult) -> list[float]:
    return [_number(event.get("wrong_fitted")) for event in result.memorisation]


def _wrong_present_fitted(result: RunResult) -> list[float]:
    return [_number(event.get("wrong_present_fitted")) for event in result.memorisation]


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


LABORATORY: tuple[tuple[Series, str, str], ...] = (
    (
        _clean_auroc,
        "Mean AUROC against clean labels over the epochs, a plot a method",
        "Mean AUROC against the clean labels, on a sample of the training images: what the model knows of the truth. "
        "Like the curves below it was recorded, and chose nothing.",
    ),
    (
        _wrong_fitted,
        "Share of the wrong labels fitted over the epochs, a plot a method",
        "Share of the wrong labels of these images that the model has fitted. Who knows the truth fits none of them; "
        "who knows the labels by heart fits all.",
    ),
    (
        _wrong_present_fitted,
        "Share of the labels that are wrongly present fitted over the epochs, a plot a method",
        "The same of the labels that wrongly say “present” alone. Who knows nothing fits few of these, and nearly all "
        "of those that wrongly say “absent”: here learning by heart is seen best.",
    ),
)
"""Series, what its figure is for readers who do not see it, and what stands above it; where clean labels were named."""


def _figure(plan: Plan, results: Sequence[RunResult], series: Series, label: str) -> str | None:
    """Return a grid of one panel a data set and method; None where there is no curve of two epochs."""
    curves = {
        (data.name, method.name): [
            values
            for result in results
            if (result.run.data, result.run.method) == (data.name, method.name) and len(values := series(result)) > 1
        ]
        for data in plan.data
        for method in plan.methods
    }
    value_K = np.array([value for of_method in curves.values() for curve in of_method for value in curve])
    if not np.isfinite(value_K).any():
        return None
    longest = max(len(curve) for of_method in curves.values() for curve in of_method)
    low, high = float(np.nanmin(value_K)), float(np.nanmax(value_K))
    room = max(0.06 * (high - low), 0.005)
    panels = []
    for (data, method), of_method in curves.items():
        if of_method and not np.isfinite(of_method[0]).any():
            continue  # a reference that was trained on the clean labels has no wrong ones
        lines = []
        if method != plan.baseline:
            lines += _mean_line(curves[data, plan.baseline], role="muted", dashed=True)
        lines += [Line(x=_epochs(curve), y=curve, role="first", width=0.6) for curve in of_method]
        lines += _mean_line(of_method, role="first", dashed=False)
        panels.append(
            Panel(
                title=f"{data}: {method}" if len(plan.data) > 1 else method, lines=lines, x_label=EPOCH_LABEL,
                limits=(1, longest, low - room, high + room),
            )
        )  # fmt: skip
    return panel_grid(panels, columns=min(COLUMNS, len(panels)), width_in=2.4, height_in=1.9, left_in=0.4, label=label)


def _mean_line(curves: Sequence[list[float]], *, role: str, dashed: bool) -> list[Line]:
    if not curves:
        return []
    shortest = min(len(curve) for curve in curves)
    mean_E: NDArray[np.float64] = np.mean([curve[:shortest] for curve in curves], axis=0)
    return [Line(x=_epochs(mean_E), y=mean_E, role=role, dashed=dashed, width=1.2 if dashed else 2.0)]


def _epochs(curve: "Sequence[float] | NDArray[np.float64]") -> NDArray[np.float64]:
    return np.arange(1, len(curve) + 1, dtype=np.float64)
