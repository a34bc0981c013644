"""The statistics of a manifest as one page: no scripts, nothing fetched; light or dark as the reader's system asks.

The page is a function of what `manifests.stats.manifest_stats` found alone: no time and no path is in it.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from manifests.schema import SPLITS
from manifests.stats_figures import co_occurrence_map, histogram, label_kinds, prevalence
from manifests.stats_flow import FILE_RULES, flow_diagram

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf7; --card: #fff; --ink: #1d2126; --muted: #667079; --rule: #e2e0d9;
  --first: #14618f; --second: #c0532b; --third: #2f7d4f; --dark-text: #fff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1b1f23; --ink: #e8e6e1; --muted: #98a1a9; --rule: #31373d;
    --first: #6db6e3; --second: #ef9a72; --third: #7cc79a; --dark-text: #10202b;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.55 system-ui, "Segoe UI", sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 3rem 1.5rem 5rem; }
h1 { font: 600 2.2rem/1.2 Georgia, serif; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h2 { font: 600 1.4rem/1.3 Georgia, serif; margin: 3rem 0 .9rem; padding-top: .9rem; border-top: 1px solid var(--rule); }
p { max-width: 46rem; margin: .5rem 0 1rem; }
.small { color: var(--muted); font-size: .85rem; }
.numbers { display: flex; flex-wrap: wrap; gap: 2.4rem; margin: 1.4rem 0 0; padding: 0; list-style: none; }
.numbers b { display: block; font: 600 1.7rem/1.2 Georgia, serif; font-variant-numeric: tabular-nums lining-nums; }
.numbers span { color: var(--muted); font-size: .85rem; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 1rem; overflow-x: auto; }
.card + .card { margin-top: 1rem; }
.warning { border-left: 4px solid var(--second); padding-left: .8rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums lining-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; }
th { color: var(--muted); font-weight: 500; font-size: .82rem; border-bottom-color: var(--muted); }
tr:last-child td { border-bottom: 0; }
svg { display: block; width: 100%; height: auto; font: 13px system-ui, "Segoe UI", sans-serif; }
svg .label { fill: var(--ink); } svg .tick { fill: var(--muted); font-size: 12px; }
svg .in-light, svg .in-dark { fill: var(--ink); font-size: 10px; pointer-events: none; }
svg .in-dark { fill: var(--dark-text); }
svg .rule { stroke: var(--rule); } svg .flow { stroke: var(--muted); stroke-width: 1.5; }
svg .first { fill: var(--first); } svg .second { fill: var(--second); } svg .third { fill: var(--third); }
svg .muted { fill: var(--muted); fill-opacity: .35; } svg .none { fill: var(--rule); }
svg .kept { fill: var(--paper); stroke: var(--first); } svg .out { fill: var(--paper); stroke: var(--second); }
"""


def stats_page(found: Mapping[str, Any]) -> str:
    """Return the page, an HTML document, for what `manifests.stats.manifest_stats` found.

    Under ``against_expert`` it may also have what `manifests.expert.against_expert` found.
    """
    everything = found["splits"]["all"]
    numbers = {
        "images": everything["images"],
        "patients": everything["patients"],
        "findings labelled": len(found["findings"]),
        "rows left out": sum(sum(source["left_out"].values()) for source in found["flow"]),
    }
    sections = [
        ("From label rows to images", _flow(found)),
        ("Splits", _splits(found)),
        ("Prevalence", _prevalence(found)),
        ("Findings that occur together", _card(co_occurrence_map(found)) + _note(CO_OCCURRENCE_NOTE)),
        ("Ages and views", _ages_and_views(found)),
        ("What is not labelled", _missing(found)),
        ("What label spaces select", _label_spaces(found)),
        ("Against the experts", _experts(found.get("against_expert"))),
        ("Sources", _sources(found)),
    ]
    title = f"Manifest of {found['dataset']}"
    items = "".join(f"<li><b>{count:,}</b><span>{escape(name)}</span></li>" for name, count in numbers.items())
    body = "".join(f"<section><h2>{escape(name)}</h2>{content}</section>" for name, content in sections if content)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f'<body><main><h1>{escape(title)}</h1><ul class="numbers">{items}</ul>{body}</main></body></html>\n'
    )


CO_OCCURRENCE_NOTE = (
    "Of the images with the finding of the row, the percentage that also bear the finding of the column. "
    "Findings that no image bears are not shown."
)


def _flow(found: Mapping[str, Any]) -> str:
    splits = {split: found["splits"][split]["images"] for split in SPLITS}
    files = {
        found["exclusion_meanings"].get(rule, rule): count
        for rule, count in found["exclusions"].items()
        if count and rule.rpartition(".")[2] in FILE_RULES
    }
    beside = "".join(_note(f"Also left out: {count:,} {meaning}.") for meaning, count in files.items())
    return _card(flow_diagram(found["flow"], splits)) + beside


def _splits(found: Mapping[str, Any]) -> str:
    splits = found["splits"]
    rows: list[list[str]] = [
        [name, *(f"{part[name]:,}" for part in splits.values())] for name in ("images", "patients")
    ]
    for group in ("views", "sex"):
        for value in splits["all"][group]:
            rows.append(
                [f"{group.removesuffix('s')} {value}", *(f"{part[group].get(value, 0):,}" for part in splits.values())]
            )
    for name in splits["all"]["age_years"]:
        ages = [part["age_years"][name] for part in splits.values()]
        rows.append([f"age {name.replace('_', ' ')}", *("n/a" if age is None else f"{age:,g}" for age in ages)])
    rule = found["split_rule"].get("rule", "not told")
    return _card(_table(["", *splits], rows)) + _note(f"Split: {rule}.")


def _prevalence(found: Mapping[str, Any]) -> str:
    rows = []
    for name, counts in found["findings"].items():
        cells = []
        for part in counts.values():
            labelled = sum(part.values()) - part["not_labelled"]
            cells.append(f"{part['positive']:,} ({part['positive'] / labelled:.2%})" if labelled else "not labelled")
        rows.append([name, *cells])
    return (
        _card(prevalence(found))
        + _note("Positives among the rows that label the finding; the scale is logarithmic.")
        + _card(_table(["", *found["splits"]], rows))
    )


def _ages_and_views(found: Mapping[str, Any]) -> str:
    known = found["splits"]["all"]["age_years"]["known"]
    ages = histogram(found, "age_decades", label="ages by decade") if known else ""
    views = histogram(found, "views", label="views", unknown="not given")
    return (
        (
            _card(ages) + _note("Age in decades, by the first year; the share of a split's rows with a known age.")
            if ages
            else ""
        )
        + _card(views)
        + _note("Views in the release's words; the share of a split's rows.")
    )


def _missing(found: Mapping[str, Any]) -> str:
    rows = found["splits"]["all"]["images"]
    given = [[name, f"{count:,}", f"{count / max(1, rows):.1%}"] for name, count in found["not_given"].items()]
    return _card(label_kinds(found)) + _card(_table(["column", "rows without a value", "share"], given))


def _label_spaces(found: Mapping[str, Any]) -> str:
    rows = []
    for name, space in found["label_spaces"].items():
        rows.append([name, *(f"{space['selected'][split]:,}" for split in SPLITS)])
        for reason in dict.fromkeys(reason for counts in space["left_out"].values() for reason in counts):
            rows.append([f"left out: {reason}", *(f"{space['left_out'][split].get(reason, 0):,}" for split in SPLITS)])
    return _card(_table(["", *SPLITS], rows)) if rows else _note("No label space has all its findings labelled here.")


def _experts(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    rows = []
    for finding, by_set in found["agreement"].items():
        for name, counts in by_set["sets"].items():
            if counts is None:
                rows.append([f"{finding}, {name}", "not labelled here", "", ""])
            else:
                rates = ("n/a" if counts[rate] is None else f"{counts[rate]:.1%}" for rate in ("ppv", "sensitivity"))
                rows.append([f"{finding}, {name}", f"{counts['images']:,}", *rates])
    warnings = "".join(f'<p class="warning">{escape(warning)}</p>' for warning in found["warnings"])
    return _card(_table(["finding, set of the experts", "images", "PPV", "sensitivity"], rows)) + warnings


def _sources(found: Mapping[str, Any]) -> str:
    rows = [[f"{file.get('dataset', found['dataset'])}: {file['file']}", file["sha256"]] for file in found["sources"]]
    return _card(_table(["file", "SHA-256"], rows)) if rows else ""


def _card(content: str) -> str:
    return f'<div class="card">{content}</div>'


def _note(words: str) -> str:
    return f'<p class="small">{escape(words)}</p>'


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
