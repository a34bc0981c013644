"""Figures of a report: grids of small line plots, each an SVG text that follows the colours of the page.

Matplotlib knows no CSS, so that it draws in stand-in colours, which become CSS variables afterwards: one figure serves
a light and a dark page. The same input gives the same text: no dates, no random identifiers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from io import StringIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ROLES = {"ink": "#010101", "muted": "#020202", "rule": "#030303", "first": "#040404", "second": "#050505"}
"""Role of a colour -> the stand-in that matplotlib draws it in; the page defines ``--<role>``."""

EPOCH_LABEL = "epoch"

PX_PER_IN = 96
"""CSS pixels of an inch."""

TOP_IN, RIGHT_IN, BOTTOM_IN, AXIS_LABEL_IN = 0.24, 0.12, 0.22, 0.15
"""Room around the axes of a panel, in inches: title, gap, tick labels, and the text below them where there is one."""


Corner = Literal["lower right", "upper right", "lower left"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a panel."""

    x: Sequence[float] | NDArray[np.floating]
    """Where, in the unit of the panel."""

    y: Sequence[float] | NDArray[np.floating]
    """Values; NaN leaves a gap."""

    label: str = ""
    """Text of the legend; empty: not in the legend."""

    role: str = "first"
    """Role of the colour, a key of `ROLES`."""

    dashed: bool = False
    """Dashed instead of solid."""

    width: float = 1.6
    """Line width in points."""

    dots: bool = False
    """A dot at every value."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One small plot."""

    title: str
    """Text above it."""

    lines: Sequence[Line]
    """What it shows, the last one on top."""

    note: str = ""
    """Short text in one of its corners."""

    note_corner: Corner = "lower right"
    """Where the curve does not go."""

    x_label: str = ""
    """Text below it."""

    limits: tuple[float, float, float, float] | None = None
    """x from, x to, y from, y to; None: as the data ask, with some room."""

    x_ticks: Sequence[float] = ()
    """Where the x axis has its labels; empty: as matplotlib chooses."""

    y_ticks: Sequence[float] = ()
    """Where the y axis has its labels; empty: as matplotlib chooses."""

    unit_square: bool = False
    """Both axes run from 0 to 1 and are equally long (ROC and PR curves)."""

    points: Sequence[tuple[float, float, str]] = field(default=())
    """Marked points: x, y, text beside it."""


def panel_grid(
    panels: Sequence[Panel], *, columns: int, width_in: float, height_in: float, left_in: float = 0.24, label: str
) -> str:
    """Return one SVG element a panel, side by side in rows of `columns`, of fewer where the window is narrow.

    Args:
        panels: at least one.
        columns: panels in a row, at most.
        width_in: width of one panel in inches, room for its labels included.
        height_in: height of one panel in inches.
        left_in: room for the labels of the y axis, in inches.
        label: what the panels show together, for readers who do not see them.
    """
    import matplotlib as mpl  # costs 0.3 s, and training must not pay for it before its end

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cxr", "font.size": 8, "font.family": "sans-serif"}):
        drawn = "".join(_panel_svg(panel, width_in, height_in, left_in) for panel in panels)
    width_px = columns * width_in * PX_PER_IN
    return (
        f'<div class="grid" role="group" aria-label="{escape(label)}" style="max-width: {width_px:.0f}px">{drawn}</div>'
    )


def _panel_svg(panel: Panel, width_in: float, height_in: float, left_in: float) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in))
    figure.patch.set_visible(False)
    # Fixed margins: matplotlib's layout engines double the time of a panel.
    below_in = BOTTOM_IN + (AXIS_LABEL_IN if panel.x_label else 0)
    box = (
        left_in / width_in,
        below_in / height_in,
        (width_in - left_in - RIGHT_IN) / width_in,
        (height_in - below_in - TOP_IN) / height_in,
    )
    _draw(figure.add_axes(box), panel)
    text = StringIO()
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(text, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _as_element(text.getvalue(), panel.title, width_in * PX_PER_IN)


def _draw(axis: Any, panel: Panel) -> None:
    axis.patch.set_visible(False)
    axis.set_title(panel.title, fontsize=8.5, color=ROLES["ink"], loc="left", pad=4)
    axis.set_xlabel(panel.x_label, fontsize=7.5, color=ROLES["muted"], labelpad=2)
    axis.tick_params(colors=ROLES["muted"], labelsize=7, length=0, pad=3)
    axis.grid(color=ROLES["rule"], linewidth=0.6)
    axis.set_axisbelow(True)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ROLES["rule"])
    for line in panel.lines:
        is_alone = np.isfinite(np.asarray(line.y, dtype=float)).sum() == 1
        marker = "o" if is_alone or line.dots else None
        axis.plot(
            line.x, line.y, color=ROLES[line.role], linewidth=line.width, linestyle="--" if line.dashed else "-",
            marker=marker, markersize=4 if is_alone else 2.5, label=line.label or None, solid_joinstyle="round",
            clip_on=not panel.unit_square,
        )  # fmt: skip
    for x, y, label in panel.points:
        axis.plot([x], [y], "o", color=ROLES["ink"], markersize=4.5)
        axis.annotate(
            label, (x, y), xytext=(0, 6), textcoords="offset points", fontsize=7.5, color=ROLES["ink"], ha="center"
        )
    if panel.unit_square:
        axis.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), aspect="equal")
        axis.set_xticklabels(("0", ".5", "1"))
        axis.set_yticklabels(("0", ".5", "1"))
    elif panel.limits is not None:
        axis.set(xlim=panel.limits[:2], ylim=panel.limits[2:])
    else:
        axis.margins(x=0.04, y=0.14)
    if panel.x_ticks:
        axis.set_xticks(panel.x_ticks, [f"{tick:g}" for tick in panel.x_ticks])
    if panel.y_ticks:
        axis.set_yticks(panel.y_ticks, [f"{tick:g}" for tick in panel.y_ticks])
    if panel.x_label == EPOCH_LABEL:
        axis.xaxis.get_major_locator().set_params(integer=True)
    if panel.note:
        vertical, horizontal = panel.note_corner.split()
        axis.text(
            0.95 if horizontal == "right" else 0.06, 0.94 if vertical == "upper" else 0.06, panel.note, fontsize=8,
            weight="bold", color=ROLES["ink"], transform=axis.transAxes, ha=horizontal,
            va="top" if vertical == "upper" else "baseline",
        )  # fmt: skip
    if any(line.label for line in panel.lines):
        axis.legend(fontsize=7, frameon=False, labelcolor=ROLES["muted"], handlelength=1.4, borderaxespad=0.2)


def _as_element(svg: str, label: str, width_px: float) -> str:
    """Return matplotlib's SVG document as an element of a page, in the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r"font: ([\w ]*?)([\d.]+px) [^;\"]*", r"font: \1\2 var(--sans)", svg)
    view_box = re.search(r'viewBox="[^"]*"', svg)
    if view_box is None:
        raise ValueError("matplotlib's SVG has no viewBox")
    # A panel is never drawn larger than it was laid out, and shrinks with a window that is narrower.
    style = f"--laid-out: {width_px:.0f}px"
    opening = f'<svg role="img" aria-label="{escape(label)}" {view_box[0]} style="{style}">'
    svg = opening + svg[svg.index(">") + 1 :]
    for role, colour in ROLES.items():
        svg = svg.replace(colour, f"var(--{role})")
    return svg.strip()
