"""The page around a report: one file, no scripts, nothing fetched; light or dark as the reader's system asks."""

from html import escape

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf7; --card: #ffffff; --ink: #1d2126; --muted: #667079; --rule: #e2e0d9;
  --first: #14618f; --second: #c0532b; --good: #2f7d4f; --warn-ink: #7a4a00; --warn-paper: #fdf3dc;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, "URW Palladio L", "Book Antiqua", Georgia, serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1b1f23; --ink: #e8e6e1; --muted: #98a1a9; --rule: #31373d;
    --first: #6db6e3; --second: #ef9a72; --good: #7cc79a; --warn-ink: #f1cf8b; --warn-paper: #33290f;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.55 var(--sans); }
main { max-width: 66rem; margin: 0 auto; padding: 3.5rem 1.5rem 5rem; }
h1 { font: 600 2.3rem/1.15 var(--serif); letter-spacing: -.01em; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h2 { font: 600 1.45rem/1.3 var(--serif); margin: 3.2rem 0 .9rem; padding-top: .9rem; }
h2 { border-top: 1px solid var(--rule); }
h3 { font: 600 1rem/1.4 var(--sans); margin: 1.8rem 0 .5rem; }
a { color: var(--first); }
p { max-width: 44rem; margin: .5rem 0 1rem; }
.lead { font: 1.15rem/1.6 var(--serif); }
.kicker { color: var(--muted); font-size: .8rem; letter-spacing: .08em; text-transform: uppercase; margin: 0 0 .5rem; }
.small { color: var(--muted); font-size: .85rem; }
.figures { display: flex; flex-wrap: wrap; gap: 2.4rem; margin: 1.6rem 0 0; padding: 0; list-style: none; }
.figures b { display: block; font: 600 1.7rem/1.2 var(--serif); font-variant-numeric: tabular-nums lining-nums; }
.figures span { color: var(--muted); font-size: .85rem; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 1rem; overflow-x: auto; }
.card + .card { margin-top: 1rem; }
.card svg { display: block; width: 100%; height: auto; margin: 0 auto; }
.card .grid { display: flex; flex-wrap: wrap; }
.card .grid svg { margin: 0; max-width: var(--laid-out); }
.warning { background: var(--warn-paper); color: var(--warn-ink); }
.warning { border-radius: 8px; padding: .7rem 1rem; margin: .8rem 0; }
.warning ul { margin: .2rem 0; padding-left: 1.2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums lining-nums; }
th, td { padding: .34rem .7rem; text-align: left; border-bottom: 1px solid var(--rule); vertical-align: baseline; }
th { color: var(--muted); font-weight: 500; font-size: .82rem; border-bottom-color: var(--muted); }
tr:last-child td { border-bottom: 0; }
.number { text-align: right; white-space: nowrap; }
tr.mean td { font-weight: 600; border-top: 1px solid var(--muted); }
tr.aside td { color: var(--muted); }
td.scale { width: 25%; min-width: 8rem; padding: 0 .7rem; vertical-align: middle; }
td.scale div { position: relative; height: 1px; background: var(--rule); }
td.scale i { position: absolute; left: 0; top: -1px; height: 3px; background: var(--first); border-radius: 2px; }
td.scale u { position: absolute; top: -4px; height: 9px; background: var(--first); opacity: .25; border-radius: 2px; }
td.number small { color: var(--muted); font-weight: 400; }
table.rates td small { display: block; line-height: 1.3; }
td.forest, th.forest { width: 32%; min-width: 10rem; padding: 0 .7rem; vertical-align: middle; }
th.forest span { display: inline-block; width: 33.3%; text-align: center; font-variant-numeric: tabular-nums; }
th.forest span:first-child { text-align: left; }
th.forest span:last-child { text-align: right; }
td.forest div { position: relative; height: 1.9em; }
td.forest div::before { content: ""; position: absolute; left: 50%; top: 0; bottom: 0; width: 1px; }
td.forest div::before { background: var(--muted); opacity: .6; }
td.forest u { position: absolute; top: 50%; height: 2px; margin-top: -1px; background: var(--first); }
td.forest i { position: absolute; top: 50%; width: 9px; height: 9px; margin: -4.5px; background: var(--first); }
td.forest i { border-radius: 50%; }
tr.mean td.forest i { border-radius: 0; transform: rotate(45deg); }
tr.noise td.scale i { background: var(--muted); opacity: .5; }
.settings { columns: 3 18rem; column-gap: 1rem; }
.settings .card { margin: 0 0 1rem; break-inside: avoid; }
.settings h3 { margin: 0 0 .4rem; }
.settings td { padding: .18rem .4rem; font-size: .85rem; overflow-wrap: anywhere; }
.settings td:first-child { color: var(--muted); padding-left: 0; white-space: nowrap; }
details { margin: .8rem 0; }
summary { cursor: pointer; font-weight: 600; }
code { font: .9em ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; }
@media (max-width: 48rem) {
  main { padding: 2rem 1rem 3rem; }
  .card { padding: .7rem; }
  .card .grid svg { flex: 1 1 calc(.85 * var(--laid-out)); }
}
@media print { body { background: none; } main { max-width: none; padding: 0; } .card { break-inside: avoid; } }
"""


def page(title: str, body: str) -> str:
    """Return the whole page; `body` is HTML."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def heading(text: str, level: int = 2) -> str:
    """Return a heading of plain text."""
    return f"<h{level}>{escape(text)}</h{level}>"


def card(content: str) -> str:
    """Return HTML in a framed box that scrolls by itself where it is too wide."""
    return f'<div class="card">{content}</div>'


def warnings_box(messages: list[str]) -> str:
    """Return the messages in a box that nobody overlooks; nothing if there are none."""
    if not messages:
        return ""
    return f'<div class="warning"><ul>{"".join(f"<li>{escape(message)}</li>" for message in messages)}</ul></div>'


def key_figures(figures: list[tuple[str, str]]) -> str:
    """Return large numbers, each with what it is below it."""
    items = "".join(f"<li><b>{escape(value)}</b><span>{escape(what)}</span></li>" for value, what in figures)
    return f'<ul class="figures">{items}</ul>' if figures else ""


def settings_table(title: str, values: list[tuple[str, str]]) -> str:
    """Return a box with keys and values."""
    rows = "".join(f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>" for key, value in values)
    return f'<div class="card">{heading(title, 3)}<table>{rows}</table></div>'
