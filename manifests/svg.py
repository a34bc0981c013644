"""SVG by hand, for figures of rectangles, dots and words: small, and the same bytes for the same input.

A shape has a CSS class and no colour of its own, so that one figure serves a light and a dark page, and a `title` that
browsers show under the pointer. Lengths are CSS pixels.
"""

from collections.abc import Iterable
from html import escape


def figure(width: float, height: float, shapes: Iterable[str], *, label: str) -> str:
    """Return an SVG element that shrinks with its page; `label` says what it shows, for readers who do not see it."""
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {_px(width)} {_px(height)}" '
        f'style="max-width: {_px(width)}px">{"".join(shapes)}</svg>'
    )


def text(x: float, y: float, words: str, css: str = "label", *, anchor: str = "start", turn_degrees: float = 0) -> str:
    """Return a line of text; `anchor` is start, middle or end, `y` its baseline."""
    turn = f' transform="rotate({_px(turn_degrees)} {_px(x)} {_px(y)})"' if turn_degrees else ""
    anchored = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{_px(x)}" y="{_px(y)}" class="{css}"{anchored}{turn}>{escape(words)}</text>'


def rectangle(
    x: float, y: float, width: float, height: float, css: str, *, title: str = "", opacity: float | None = None
) -> str:
    """Return a rectangle."""
    shade = "" if opacity is None else f' fill-opacity="{opacity:.3f}"'
    place = f'x="{_px(x)}" y="{_px(y)}" width="{_px(width)}" height="{_px(height)}"'
    return _titled("rect", f'{place} class="{css}"{shade}', title)


def dot(x: float, y: float, css: str, *, radius: float = 4, title: str = "") -> str:
    """Return a filled circle."""
    return _titled("circle", f'cx="{_px(x)}" cy="{_px(y)}" r="{_px(radius)}" class="{css}"', title)


def line(x: float, y: float, to_x: float, to_y: float, css: str = "rule") -> str:
    """Return a straight line."""
    return f'<line x1="{_px(x)}" y1="{_px(y)}" x2="{_px(to_x)}" y2="{_px(to_y)}" class="{css}"/>'


def _titled(element: str, attributes: str, title: str) -> str:
    if not title:
        return f"<{element} {attributes}/>"
    return f"<{element} {attributes}><title>{escape(title)}</title></{element}>"


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
