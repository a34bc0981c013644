"""Two runs on the same images in a report: differences of AUROC with their intervals, as a forest plot."""

from html import escape
from typing import Any

from trainer.report.numbers import finding_name, number
from trainer.report.page import card, heading, paragraph

SCALES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Ends, to both sides, that the axis may have."""


def differences_part(entry: dict[str, Any], found: dict[str, Any]) -> str:
    """Return the forest plot of a file of differences.

    Args:
        entry: the evaluation in metrics.json.
        found: what `trainer.evaluation.paired.compare_runs` wrote.
    """
    rows = found["differences"]
    first, second = found["first"], found["second"]
    title = heading(f"Difference to {second}", 3)
    if not _is_of(entry, rows):
        text = f"The differences to {second} are of earlier predictions: cxr-train evaluate --against makes them anew."
        return title + paragraph(text, "small")
    ends = [abs(end) for row in rows if row["interval"] is not None for end in row["interval"]]
    ends += [abs(row["difference"]) for row in rows if row["interval"] is not None]
    scale = next((scale for scale in SCALES if max(ends, default=0.0) <= scale), 1.0)
    drawn = found["bootstrap"]
    text = (
        f"AUROC of {first} less that of {second}, on the same images. Bars: where {drawn['confidence']:.0%} of "
        f"{drawn['draws']:,} draws of patients, the same for both, lie; right of the line {first} is better. The last "
        f"row, the mean over findings with at least {found['min_positives']} positives, is the one to read first: the "
        "p values (DeLong) are not corrected for their number. Neither tells what other seeds of training would give."
    )
    body = "".join(_row(row, scale) for row in rows)
    head = (
        f"<tr><th>finding<th class=number>{escape(first)}<th class=number>{escape(second)}<th class=number>difference"
        f"<th class=forest><span>{-scale:g}</span><span>0</span><span>{scale:+g}</span><th class=number>p</tr>"
    )
    return title + paragraph(text, "small") + card(f"<table>{head}{body}</table>")


def _is_of(entry: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    """Tell whether the differences are of the predictions that the entry was measured on."""
    measured = {finding["finding"]: finding["auroc"] for finding in entry["findings"]}
    return all(row["name"] == "mean" or measured.get(row["name"]) == row["first"] for row in rows)


def _row(row: dict[str, Any], scale: float) -> str:
    is_mean = row["name"] == "mean"
    difference, interval, p_value = row["difference"], row["interval"], row["delong_p"]
    ends = "" if interval is None else f" <small>({interval[0]:+.3f} to {interval[1]:+.3f})</small>"
    plot = ""
    if interval is not None:
        left, right, middle = (50 * (1 + value / scale) for value in (*interval, difference))
        plot = f'<u style="left:{left:.1f}%;width:{right - left:.1f}%"></u><i style="left:{middle:.1f}%"></i>'
    name = "Mean" if is_mean else finding_name(row["name"])
    return (
        f"<tr{' class=mean' if is_mean else ''}><td>{escape(name)}</td><td class=number>{number(row['first'])}</td>"
        f"<td class=number>{number(row['second'])}</td>"
        f"<td class=number>{'n/a' if difference is None else f'{difference:+.3f}'}{ends}</td>"
        f"<td class=forest><div>{plot}</div></td>"
        f"<td class=number>{'' if p_value is None else f'{p_value:.2g}'}</td></tr>"
    )
