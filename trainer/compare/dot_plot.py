"""A plot of methods as rows: a dot a seed, the mean with its interval; SVG in the colours of the page."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from trainer.evaluation.metrics import Interval

LABELS_PX, GAP_PX, ROW_PX, TOP_PX, BOTTOM_PX = 210, 30, 40, 34, 26

Layout = Literal["beside", "stacked"]

LAYOUTS: dict[Layout, int] = {"beside": 360, "stacked": 290}
"""How panels lie, side by side or one below the other as in a narrow window -> width of a panel in pixels."""

NUM_TICKS = 5


@dataclass(frozen=True, kw_only=True)
class DotRow:
    """One row of a panel."""

    mean: float | None
    """None: nothing is drawn."""

    interval: Interval | None
    """Drawn as a bar through the mean."""

    seeds: Sequence[float] = ()
    """Small dots; one alone is the mean and is not drawn."""

    role: str = "first"
    """Role of the colour on the page."""


@dataclass(frozen=True, kw_only=True)
class DotPanel:
    """One panel beside others that share its rows."""

    title: str
    """Text above it."""

    rows: Sequence[DotRow]
    """One for each label of the plot."""

    zero: bool = False
    """Whether a line at 0 is drawn, and numbers have a sign."""


def dot_plot(labels: Sequence[str], panels: Sequence[DotPanel], *, layout: Layout = "beside", label: str) -> str:
    """Return one SVG element with the panels.

    Args:
        labels: text of the rows.
        panels: each with as many rows.
        layout: a key of `LAYOUTS`.
        label: what the figure shows, for readers who do not see it.
    """
    panel_px, is_stacked = LAYOUTS[layout], layout == "stacked"
    width, height = LABELS_PX + panel_px + GAP_PX, TOP_PX + len(labels) * ROW_PX + BOTTOM_PX
    names = "".join(
        f'<text x="{LABELS_PX - 14}" y="{_y(row) + 4}" text-anchor="end" fill="var(--ink)">{escape(text)}</text>'
        for row, text in enumerate(labels)
    )
    parts = []
    for number, panel in enumerate(panels):
        drawn = "".join(_panel(panel, LABELS_PX, panel_px, len(labels)))
        x, y = (0, number * height) if is_stacked else (number * (panel_px + GAP_PX), 0)
        own_names = names if is_stacked or number == 0 else ""
        parts.append(f'<g transform="translate({x} {y})">{own_names}{drawn}</g>')
    others = len(panels) - 1
    width, height = (width, height * (1 + others)) if is_stacked else (width + others * (panel_px + GAP_PX), height)
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" '
        f'style="max-width: {width}px; font: 13px var(--sans)">{"".join(parts)}</svg>'
    )


def nice_ticks(low: float, high: float, num_ticks: int = NUM_TICKS) -> list[float]:
    """Return round numbers from `low` to `high`, about `num_ticks` of them."""
    step = 10.0 ** math.floor(math.log10((high - low) / num_ticks))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= num_ticks)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _panel(panel: DotPanel, left: float, panel_px: float, num_rows: int) -> Iterator[str]:
    low, high = _range(panel)
    bottom = TOP_PX + num_rows * ROW_PX

    def x(value: float) -> float:
        return round(left + 10 + (panel_px - 20) * (value - low) / (high - low), 2)

    yield f'<text x="{left}" y="16" fill="var(--muted)" font-weight="600">{escape(panel.title)}</text>'
    ticks = nice_ticks(low, high)
    digits = max(len(f"{tick:.6f}".rstrip("0").partition(".")[2]) for tick in ticks)
    for tick in ticks:
        text = "0" if tick == 0 else f"{tick:+.{digits}f}" if panel.zero else f"{tick:.{digits}f}"
        strong = panel.zero and tick == 0
        colour, width = ("muted", 1.5) if strong else ("rule", 1)
        yield (
            f'<line x1="{x(tick)}" x2="{x(tick)}" y1="{TOP_PX - 6}" y2="{bottom}" stroke="var(--{colour})" '
            f'stroke-width="{width}"/>'
            f'<text x="{x(tick)}" y="{bottom + 17}" text-anchor="middle" fill="var(--muted)" font-size="11.5">'
            f"{text}</text>"
        )
    for number, row in enumerate(panel.rows):
        yield from _row(row, _y(number), x, signed=panel.zero)


def _row(row: DotRow, y: float, x: Callable[[float], float], *, signed: bool) -> Iterator[str]:
    if row.mean is None:
        return
    colour = f"var(--{row.role})"
    for value in row.seeds if len(row.seeds) > 1 else ():
        yield f'<circle cx="{x(value)}" cy="{y + 9}" r="2.6" fill="none" stroke="{colour}" stroke-width="1.2"/>'
    if row.interval is not None:
        low, high = (x(end) for end in row.interval)
        yield f'<line x1="{low}" x2="{high}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2.4"/>'
        for end in (low, high):
            yield f'<line x1="{end}" x2="{end}" y1="{y - 4}" y2="{y + 4}" stroke="{colour}" stroke-width="1.6"/>'
    text = f"{row.mean:+.3f}" if signed else f"{row.mean:.3f}"
    yield (
        f'<circle cx="{x(row.mean)}" cy="{y}" r="4.6" fill="{colour}"/>'
        f'<text x="{x(row.mean)}" y="{y - 8}" text-anchor="middle" fill="var(--ink)" font-size="11.5" '
        f'stroke="var(--card)" stroke-width="3" paint-order="stroke">{text}</text>'
    )


def _range(panel: DotPanel) -> tuple[float, float]:
    """Return where the axis begins and ends: all that is drawn, with some room."""
    values = [0.0] if panel.zero else []
    for row in panel.rows:
        values += row.seeds
        values += row.interval or ()
        values += [] if row.mean is None else [row.mean]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = max((high - low) * 0.06, 0.002)
    return low - room, high + room


def _y(row: int) -> float:
    return TOP_PX + row * ROW_PX + ROW_PX / 2
