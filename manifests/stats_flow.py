"""From raw label rows to the rows of a manifest: how many each rule left out, as numbers and as a diagram.

::

    [ nih: 112,120 label rows ] --> [ 12 in no official list ]
               |                --> [ 3 without a file       ]
    [ 112,105 rows ]
       |       |       |
    [train] [valid] [test]
"""

from collections.abc import Mapping
from textwrap import wrap
from typing import Any

from manifests import svg

FILE_RULES = ("file_without_row", "file_name_not_utf8")
"""Rules of `manifests.left_out` that count files, not label rows. It is not imported here: that would load Polars."""

EDGE, BOX_WIDTH, SIDE_WIDTH, GAP_X, GAP_Y, LINE_HEIGHT, PADDING = 1, 250, 430, 56, 26, 18, 10
WRAP = 58
"""Characters in a line of a side box."""


def flows(metadata: Mapping[str, Any], num_rows: int) -> list[dict[str, Any]]:
    """Return a flow for each source of a manifest, one but for merged manifests: source, label_rows, left_out, kept.

    `label_rows` is None where the metadata does not tell; `left_out` is what a rule counts, in words -> label rows.
    """
    parts = metadata.get("merged") or [{**metadata, "rows": num_rows}]
    return [
        {
            "source": part["dataset"],
            "label_rows": part.get("counts", {}).get("label_rows"),
            "left_out": {
                part.get("exclusion_meanings", {}).get(rule, rule): count
                for rule, count in part.get("exclusions", {}).items()
                if count and rule not in FILE_RULES
            },
            "kept": part["rows"],
        }
        for part in parts
    ]


def flow_diagram(sources: list[dict[str, Any]], splits: Mapping[str, int]) -> str:
    """Return the flows of `flows`, and the images of each split (name -> number), as an SVG element."""
    sketch = Sketch()
    y = float(EDGE)
    for source in sources:
        y = sketch.source(source, y) + GAP_Y
    y -= GAP_Y
    middle, width = BOX_WIDTH / 2, BOX_WIDTH + GAP_X + SIDE_WIDTH
    if len(sources) > 1:
        sketch.line(middle, y, middle, y + GAP_Y)
        y = sketch.box(EDGE, y + GAP_Y, BOX_WIDTH, [f"{sum(splits.values()):,} rows in all"])
    step = width / len(splits)
    centres = [step * (number + 0.5) for number in range(len(splits))]
    fork, below = y + GAP_Y / 2, y + GAP_Y
    sketch.line(middle, y, middle, fork)
    sketch.line(min(middle, centres[0]), fork, centres[-1], fork)
    bottom = y
    for centre, (split, images) in zip(centres, splits.items(), strict=True):
        sketch.line(centre, fork, centre, below)
        bottom = sketch.box(centre - step * 0.42, below, step * 0.84, [f"{split}: {images:,}"])
    shapes = [*sketch.lines, *sketch.boxes]
    return svg.figure(width + 2, bottom + 2, shapes, label="from label rows to the rows of each split")


class Sketch:
    """Lines and boxes of a diagram; boxes lie on top."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.boxes: list[str] = []

    def source(self, source: Mapping[str, Any], y: float) -> float:
        """Draw one flow from `y` down; return where it ends."""
        rows = "label rows: not told" if source["label_rows"] is None else f"{source['label_rows']:,} label rows"
        end = self.box(EDGE, y, BOX_WIDTH, [source["source"], rows])
        side = y
        for meaning, count in source["left_out"].items():
            lines = wrap(f"{count:,} {meaning}", WRAP)
            beside = side + LINE_HEIGHT / 2 + PADDING
            self.line(BOX_WIDTH / 2, beside, BOX_WIDTH + GAP_X, beside)
            side = self.box(BOX_WIDTH + GAP_X, side, SIDE_WIDTH, lines, "out") + PADDING
        below = max(end, side - PADDING) + GAP_Y
        self.line(BOX_WIDTH / 2, y, BOX_WIDTH / 2, below)
        return self.box(EDGE, below, BOX_WIDTH, [f"{source['kept']:,} rows"])

    def box(self, x: float, y: float, width: float, lines: list[str], css: str = "kept") -> float:
        """Draw a box with lines of text; return where it ends."""
        height = len(lines) * LINE_HEIGHT + 2 * PADDING
        self.boxes.append(svg.rectangle(x, y, width, height, css))
        for number, words in enumerate(lines):
            self.boxes.append(svg.text(x + PADDING, y + PADDING + LINE_HEIGHT * (number + 0.75), words))
        return y + height

    def line(self, x: float, y: float, to_x: float, to_y: float) -> None:
        """Draw a connection."""
        self.lines.append(svg.line(x, y, to_x, to_y, "flow"))
