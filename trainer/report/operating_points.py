"""The operating points of an evaluation in a report: thresholds, rates with their counts, and where they come from."""

from html import escape
from typing import Any

from trainer.evaluation.operating import FEWEST_TO_CHOOSE
from trainer.report.numbers import finding_name, number
from trainer.report.page import card, heading, paragraph

RATES = {
    "sensitivity": ("true_positives", "false_negatives"),
    "specificity": ("true_negatives", "false_positives"),
    "ppv": ("true_positives", "false_positives"),
    "npv": ("true_negatives", "false_negatives"),
}
"""Rate -> what is counted, and the rest of its denominator."""


def operating_part(entry: dict[str, Any]) -> str:
    """Return the table of the operating points of an entry of metrics.json; nothing where none was asked for."""
    choice = entry.get("operating")
    if choice is None:
        return ""
    there = [finding for finding in entry["findings"] if finding.get("operating_point") is not None]
    if not there:
        why_not = choice["why_not"] or f"each finding has fewer than {FEWEST_TO_CHOOSE} validation images of a class"
        return heading("Operating points", 3) + paragraph(f"None: {why_not}.", "small")
    rows = "".join(
        f"<tr><td>{escape(finding_name(finding['finding']))}</td>{_cells(finding['operating_point'])}</tr>"
        for finding in there
    )
    left_out = [finding_name(f["finding"]) for f in entry["findings"] if f.get("operating_point") is None]
    without = f" n/a: {', '.join(left_out)}." if left_out else ""
    text = (
        f"Each threshold was chosen on the run's {choice['num_images']:,} validation images ({_rule(choice['rule'])}) "
        "and is applied here unchanged; what it reached there is in the last column. PPV and NPV hold at the "
        f"prevalence of this test set only.{without}"
    )
    table = (
        "<table class=rates><tr><th>finding<th class=number>threshold<th class=number>sensitivity"
        "<th class=number>specificity<th class=number>PPV<th class=number>NPV"
        f"<th class=number>on validation: sens., spec.</tr>{rows}</table>"
    )
    return heading("Operating points", 3) + paragraph(text, "small") + card(table)


def _rule(rule: dict[str, Any]) -> str:
    if rule["name"] == "youden":
        return "largest sensitivity + specificity, Youden's J"
    end = "highest" if rule["name"] == "sensitivity" else "lowest"
    return f"{end} threshold with a {rule['name']} of at least {rule['at_least']:g}"


def _cells(point: dict[str, Any]) -> str:
    chosen = point["chosen"]
    rates = "".join(f"<td class=number>{_rate(point, name)}</td>" for name in RATES)
    return (
        f"<td class=number>{chosen['threshold']:.3g}</td>{rates}"
        f"<td class=number>{chosen['sensitivity']:.3f}, {chosen['specificity']:.3f}"
        f"<small>{chosen['positives']:,} with, {chosen['negatives']:,} without</small></td>"
    )


def _rate(point: dict[str, Any], name: str) -> str:
    counted, others = (point[part] for part in RATES[name])
    interval = point.get(f"{name}_interval")
    ends = "" if interval is None else f"<small>({interval[0]:.3f} to {interval[1]:.3f})</small>"
    return f"{number(point[name])}<small>{counted:,} of {counted + others:,}</small>{ends}"
