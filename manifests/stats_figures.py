"""Figures of a manifest's statistics: prevalence, co-occurrence, ages and views, and what is not labelled.

Each takes what `manifests.stats.manifest_stats` found and returns an SVG element; splits are always drawn in the same
colours, `SPLIT_COLOURS`.
"""

import math
from collections.abc import Mapping
from typing import Any

from manifests import svg

SPLIT_COLOURS = {"train": "first", "valid": "third", "test": "second"}
"""Split -> CSS class."""

KINDS = {"positive": "first", "uncertain": "second", "negative": "muted", "not_labelled": "none"}
"""Kind of label -> CSS class, in the order of a bar."""

LABEL_WIDTH, PLOT_WIDTH, ROW_HEIGHT, TOP = 190, 560, 20, 34


def prevalence(found: Mapping[str, Any]) -> str:
    """Return a dot a finding and split: its positives among the rows that label it, on a logarithmic scale."""
    findings = found["findings"]
    shares = {
        (name, split): (counts[split]["positive"], sum(counts[split].values()) - counts[split]["not_labelled"])
        for name, counts in findings.items()
        for split in SPLIT_COLOURS
    }
    least = min((count / of for count, of in shares.values() if count), default=0.01)
    decades = max(1, math.ceil(-math.log10(least)))
    height = TOP + ROW_HEIGHT * len(findings)

    def place(share: float) -> float:
        return LABEL_WIDTH + PLOT_WIDTH * (1 + math.log10(share) / decades)

    shapes = [*_legend({split: css for split, css in SPLIT_COLOURS.items() if found["splits"][split]["images"]})]
    for decade in range(decades + 1):
        x = place(10**-decade)
        shapes += [
            svg.line(x, TOP - 4, x, height),
            svg.text(x, height + 14, f"{100 * 10**-decade:g} %", "tick", anchor="middle"),
        ]
    for row, name in enumerate(findings):
        y = TOP + ROW_HEIGHT * (row + 0.5)
        shapes += [
            svg.line(LABEL_WIDTH, y, LABEL_WIDTH + PLOT_WIDTH, y),
            svg.text(LABEL_WIDTH - 8, y + 4, name, anchor="end"),
        ]
        for split, css in SPLIT_COLOURS.items():
            count, of = shares[name, split]
            if count:
                shapes.append(
                    svg.dot(place(count / of), y, css, title=f"{name}, {split}: {count:,} of {of:,} ({count / of:.2%})")
                )
    return svg.figure(LABEL_WIDTH + PLOT_WIDTH + 24, height + 20, shapes, label="prevalence a finding and split")


def co_occurrence_map(found: Mapping[str, Any]) -> str:
    """Return a square a pair: of the images with the row's finding, the share that also bear the column's."""
    names, counts = found["co_occurrence"]["findings"], found["co_occurrence"]["counts"]
    present = [number for number in range(len(names)) if counts[number][number]]
    cell = 30 if len(present) <= 20 else 22
    top = 120
    shapes: list[str] = []
    for column, number in enumerate(present):
        x = LABEL_WIDTH + cell * (column + 0.6)
        shapes.append(svg.text(x, top - 6, names[number], "tick", turn_degrees=-50))
    for row, first in enumerate(present):
        y = top + cell * row
        shapes.append(svg.text(LABEL_WIDTH - 8, y + cell * 0.66, names[first], anchor="end"))
        for column, second in enumerate(present):
            x = LABEL_WIDTH + cell * column
            both, of = counts[first][second], counts[first][first]
            share = both / of
            if first == second:
                shapes.append(svg.rectangle(x, y, cell - 1, cell - 1, "none", title=f"{names[first]}: {of:,} images"))
                continue
            title = f"{both:,} of {of:,} images with {names[first]} also bear {names[second]} ({share:.1%})"
            shapes.append(svg.rectangle(x, y, cell - 1, cell - 1, "first", title=title, opacity=share**0.7))
            if share >= 0.005:
                css = "in-dark" if share > 0.45 else "in-light"
                middle = (x + (cell - 1) / 2, y + cell * 0.62)
                shapes.append(svg.text(*middle, f"{100 * share:.0f}", css, anchor="middle"))
    width = LABEL_WIDTH + cell * len(present) + 70
    return svg.figure(width, top + cell * len(present) + 4, shapes, label="which findings occur together, in percent")


def histogram(found: Mapping[str, Any], group: str, *, label: str, unknown: str = "") -> str:
    """Return bars a value and split: the share of the split's rows whose `group` has that value.

    Args:
        found: the statistics.
        group: key of ``splits/<split>``: value -> rows.
        label: what the figure shows.
        unknown: value that stands last.
    """
    splits = {split: part[group] for split, part in found["splits"].items() if split in SPLIT_COLOURS and part[group]}
    values = list(dict.fromkeys(value for counts in splits.values() for value in counts))
    values.sort(key=lambda value: (value == unknown, int(value) if value.isdigit() else 0))
    shares = {
        split: {value: counts.get(value, 0) / sum(counts.values()) for value in values}
        for split, counts in splits.items()
    }
    most = max((share for part in shares.values() for share in part.values()), default=1.0)
    step = min(110.0, PLOT_WIDTH / max(1, len(values)))
    bar = step * 0.8 / max(1, len(splits))
    bottom = TOP + 170
    shapes = [*_legend({split: SPLIT_COLOURS[split] for split in splits}, x=0)]
    width = step * len(values)
    for share in (0.0, most):
        y = bottom - 150 * share / most
        shapes += [svg.line(0, y, width, y), svg.text(width + 6, y + 4, f"{share:.0%}", "tick")]
    for column, value in enumerate(values):
        for number, split in enumerate(splits):
            height = 150 * shares[split][value] / most
            title = f"{value}, {split}: {splits[split].get(value, 0):,} rows ({shares[split][value]:.1%})"
            x = step * (column + 0.1) + bar * number
            shapes.append(svg.rectangle(x, bottom - height, bar - 1, height, SPLIT_COLOURS[split], title=title))
        shapes.append(svg.text(step * (column + 0.5), bottom + 16, value, "tick", anchor="middle"))
    return svg.figure(max(width + 40, 300), bottom + 22, shapes, label=label)


def label_kinds(found: Mapping[str, Any]) -> str:
    """Return a bar a finding over all rows: present, uncertain, absent, not labelled."""
    shapes = [*_legend({kind.replace("_", " "): css for kind, css in KINDS.items()})]
    for row, (name, counts) in enumerate(found["findings"].items()):
        y, x = TOP + ROW_HEIGHT * row, float(LABEL_WIDTH)
        total = sum(counts["all"].values())
        shapes.append(svg.text(LABEL_WIDTH - 8, y + 14, name, anchor="end"))
        for kind, css in KINDS.items():
            count = counts["all"][kind]
            width = PLOT_WIDTH * count / total if total else 0
            if count:
                title = f"{name}, {kind.replace('_', ' ')}: {count:,} rows ({count / total:.1%})"
                shapes.append(svg.rectangle(x, y + 2, width, ROW_HEIGHT - 5, css, title=title))
            x += width
    height = TOP + ROW_HEIGHT * len(found["findings"])
    return svg.figure(
        LABEL_WIDTH + PLOT_WIDTH + 24, height + 4, shapes, label="present, absent, uncertain, not labelled"
    )


def _legend(entries: Mapping[str, str], *, x: float = LABEL_WIDTH) -> list[str]:
    """Return a square and a word for each entry, word -> CSS class."""
    shapes: list[str] = []
    for words, css in entries.items():
        shapes += [svg.rectangle(x, 2, 11, 11, css), svg.text(x + 16, 12, words, "tick")]
        x += 34 + 7 * len(words)
    return shapes
