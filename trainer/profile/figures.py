"""Figures of a profile: the last steps as a timeline, and the rates of the stages as bars beside the run's own."""

from collections.abc import Iterator, Sequence
from math import floor, log10

from manifests.svg import figure, line, rectangle, text
from trainer.profile.measurements import PARTS, Measurements, PartName, StepTimes
from trainer.profile.model import limits_of
from trainer.profile.split import timeline, told_apart
from trainer.profile.verdict import Verdict, shown

WIDTH = 960.0
LEFT = 200.0
NUM_STEPS = 6
"""Steps that the timeline shows."""

BEYOND = 4.0
"""Times the run's own rate that the bars reach: what is faster limits nothing and is cut."""

COLOURS: dict[PartName, tuple[str, str]] = {
    "data wait": ("#c0532b", "#ef9a72"),
    "augment": ("#b58a1b", "#e0bd5c"),
    "forward": ("#14618f", "#6db6e3"),
    "teacher": ("#6fa9c9", "#a9d3ec"),
    "backward": ("#0d3f5f", "#3c86b8"),
    "loss + memory": ("#7a4f9e", "#b996da"),
    "optimiser + EMA": ("#2f7d4f", "#7cc79a"),
    "all-reduce": ("#b0477a", "#e28bb4"),
    "idle": ("#d8d5cc", "#3c444b"),
    "other": ("#98a1a9", "#667079"),
}
"""Part -> its colour on a light and on a dark page."""


def style() -> str:
    """Return the CSS of the figures."""
    light = " ".join(f"--{css_of(part)}: {colours[0]};" for part, colours in COLOURS.items())
    dark = " ".join(f"--{css_of(part)}: {colours[1]};" for part, colours in COLOURS.items())
    fills = "\n".join(f".{css_of(part)} {{ fill: var(--{css_of(part)}); }}" for part in COLOURS)
    return (
        f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{fills}\n"
        ".label { fill: var(--ink); font: 13px var(--sans); }\n.tick { fill: var(--muted); font: 11px var(--sans); }\n"
        ".rule { stroke: var(--rule); }\n.step { stroke: var(--ink); stroke-width: 1.2; }\n"
        ".limit { fill: var(--muted); opacity: .55; }\n.bound { fill: var(--second); }\n.run { fill: var(--first); }\n"
        ".at { stroke: var(--first); stroke-dasharray: 4 3; }\n"
        "@media screen { .card > svg { min-width: 42rem; } }\n"  # on a narrow screen the card scrolls
    )


def css_of(part: PartName) -> str:
    """Return the CSS class of a part."""
    return "part-" + part.replace(" + ", "-").replace(" ", "-")


def timeline_figure(measured: Measurements) -> str:
    """Return the spans of the last steps of every rank, one below the other, and the legend of the parts."""
    of_ranks = [list(timeline(steps, NUM_STEPS)) for steps in told_apart([rank.epoch for rank in measured.ranks])]
    longest_s = max(spans[-1][2] for spans in of_ranks)
    scale = (WIDTH - LEFT - 20) / longest_s
    shapes: list[str] = []
    y = 14.0
    for rank, spans in zip(measured.ranks, of_ranks, strict=True):
        shapes.append(text(0, y + 19, f"rank {rank.rank}" if len(measured.ranks) > 1 else "the process"))
        for part, begin_s, end_s in spans:
            width = (end_s - begin_s) * scale
            if width > 0:
                title = f"{part}: {(end_s - begin_s) * 1e3:.2f} ms"
                shapes.append(rectangle(LEFT + begin_s * scale, y, width, 28, css_of(part), title=title))
        shapes += [line(x, y - 4, x, y + 32, "step") for x in _begins(rank.epoch, scale)]
        y += 42
    shapes += _time_axis(longest_s, scale, y)
    shapes += _legend({part for spans in of_ranks for part, _, _ in spans}, y + 36)
    return figure(WIDTH, y + 66, shapes, label=f"Parts of the last {NUM_STEPS} steps over time")


def rates_figure(measured: Measurements, verdict: Verdict) -> str:
    """Return the rates of the stages as bars, and where the run is."""
    limits = limits_of(measured)
    bars = [("steps as they run", 1 / verdict.images_per_s, "run")]
    bound = limits.bound_by
    decoded = "decode" if "decode" in measured.ranks[0].stages else "gather"
    for name, seconds, resource in (
        ("step on a constant batch", limits.step_s, "step"),
        ("loader by itself", limits.loader_s, "loader"),
        ("cores, all that there are", limits.cores_s, "cores"),
        ("reading, as later epochs do", limits.read_s, "reading"),
        ("reading from the disk", limits.cold_s, ""),
        (decoded, limits.decode_s, ""),
        ("copy to the GPU", limits.copy_s, ""),
    ):
        if seconds > 0:
            bars.append((name, seconds, "bound" if resource == bound else "limit"))
    most = BEYOND * verdict.images_per_s
    scale = (WIDTH - LEFT - 150) / most
    at = LEFT + verdict.images_per_s * scale
    shapes: list[str] = []
    for number, (name, seconds, css) in enumerate(bars):
        y, rate = 10 + 30 * number, 1 / seconds
        width = min(rate, most) * scale
        words_x = LEFT + width + 8
        if words_x - 8 <= at <= words_x + 90:  # not across the line
            words_x = at + 8
        shapes += [
            text(0, y + 15, name),
            rectangle(LEFT, y, width, 20, css, title=f"{rate:,.1f} images/s"),
            text(words_x, y + 15, f"{shown(rate)} images/s{', cut' if rate > most else ''}", "tick"),
        ]
    height = 10 + 30 * len(bars)
    shapes.append(line(at, 4, at, height, "at"))
    return figure(WIDTH, height + 6, shapes, label="Images a second of every stage beside those of the run")


def _begins(steps: Sequence[StepTimes], scale: float) -> Iterator[float]:
    """Yield where the last steps begin, in pixels."""
    last = steps[-NUM_STEPS:]
    for step in last:
        yield LEFT + (step.spans[0].begin_s - last[0].spans[0].begin_s) * scale


def _time_axis(longest_s: float, scale: float, y: float) -> Iterator[str]:
    yield line(LEFT, y, WIDTH - 20, y)
    for tick_s in ticks(longest_s):
        x = LEFT + tick_s * scale
        yield line(x, y, x, y + 4)
        yield text(x, y + 17, f"{tick_s * 1e3:,.10g} ms", "tick", anchor="start" if tick_s == 0 else "middle")


def ticks(longest_s: float) -> list[float]:
    """Return round numbers from 0 on, nine at most, the last with room for its label before the end."""
    power = 10.0 ** floor(log10(longest_s))
    step_s = next(power * share for share in (0.2, 0.5, 1.0, 2.0) if longest_s / (power * share) <= 8)
    return [number * step_s for number in range(floor(0.97 * longest_s / step_s) + 1)]


def _legend(parts: set[PartName], y: float) -> Iterator[str]:
    x = 0.0
    for part in PARTS:
        if part in parts:
            yield rectangle(x, y, 12, 12, css_of(part))
            yield text(x + 17, y + 11, part, "tick")
            x += 34 + 6.2 * len(part)
