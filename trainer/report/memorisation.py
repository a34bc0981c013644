"""The section of a report on wrong labels: how many are learned by heart, epoch by epoch, told by clean labels."""

from collections.abc import Sequence
from typing import Any

from trainer.report.figures import EPOCH_LABEL, Line, Panel, panel_grid
from trainer.report.page import card, heading, paragraph
from trainer.report.record import RunRecord

NAN = float("nan")


def memorisation_section(record: RunRecord) -> str:
    """Return curves of the events ``memorisation``; nothing where there are none."""
    events = record.of_kind("memorisation")
    if not events:
        return ""
    x = [event["epoch"] + 1 for event in events]
    fitted = [
        ("wrongly “present”", "wrong_present_fitted", "second", False),
        ("wrongly “absent”", "wrong_absent_fitted", "second", True),
        ("rightly “present”", "right_present_fitted", "first", False),
    ]
    known = [("model", "model_mean_auroc", "first", True), ("memory", "memory_mean_auroc", "first", False)]
    panels = [
        _panel("Share of labels that are fitted", events, x, fitted, limits=(0.0, 1.0)),
        _panel("AUROC on training images, clean labels", events, x, known),
    ]
    figure = panel_grid(
        [panel for panel in panels if panel.lines], columns=2, width_in=4.9, height_in=2.6, left_in=0.42,
        label="Wrong labels, by epoch",
    )  # fmt: skip
    last = events[-1]
    text = (
        f"Of {last['num_images']:,} training images whose truth is known, {last['num_wrong']:,} labels are wrong and "
        f"{last['num_right']:,} right. A finding is called present for as many images as are labelled so, the most "
        "likely ones; a label is fitted where that is what it says. Who knows the truth fits no wrong label, who knows "
        "the labels by heart all of them. None of this chose anything."
    )
    return heading("Wrong labels") + paragraph(text) + card(figure)


def _panel(
    title: str,
    events: Sequence[dict[str, Any]],
    x: Sequence[int],
    curves: Sequence[tuple[str, str, str, bool]],
    *,
    limits: tuple[float, float] | None = None,
) -> Panel:
    """Return a panel with those of the curves (label, field, role, dashed) that have a value."""
    lines = [
        Line(
            x=x, y=[NAN if event.get(field) is None else event[field] for event in events], label=label, role=role,
            dashed=dashed,
        )
        for label, field, role, dashed in curves
        if any(event.get(field) is not None for event in events)
    ]  # fmt: skip
    return Panel(
        title=title,
        lines=lines,
        x_label=EPOCH_LABEL,
        limits=None if limits is None else (min(x) - 0.5, max(x) + 0.5, *limits),
    )
