"""Differences to the baseline finding by finding, as a table whose cells have the colour of their number."""

from html import escape

from trainer.compare.comparison import MethodResult, Table
from trainer.compare.plan import Plan
from trainer.compare.text import excludes_zero

STRONGEST = 55
"""Share of the colour of the largest difference but for the reference, in percent: numbers stay legible."""


def heat_map(plan: Plan, table: Table) -> str | None:
    """Return the table as HTML; None where no method has a difference to show.

    Bold: the interval of the difference leaves 0 out. Findings that are not in the mean are muted.
    """
    methods = [method for method in table.methods if method.method != plan.baseline]
    # The reference is far from all others: with it in the scale they would have no colour.
    differences = [
        abs(row.difference.mean)
        for method in methods
        for row in method.findings.values()
        if row.difference is not None and method.method != plan.compare.reference
    ]
    if table.findings is None or not differences:
        return None
    largest = max(differences) or 1.0
    head = "".join(f"<th>{escape(method.title)}</th>" for method in methods)
    rows = []
    for name, positives, in_mean in zip(
        table.findings.names, table.findings.positives, table.findings.in_mean, strict=True
    ):
        cells = "".join(_cell(method, name, largest) for method in methods)
        base = _baseline(plan, table, name)
        rows.append(
            f'<tr class="{"" if in_mean else "aside"}"><td>{escape(name.replace("_", " "))}</td><td>{positives:,}</td>'
            f"<td>{base}</td>{cells}</tr>"
        )
    first = f"<th>finding</th><th>positives</th><th>{escape(plan.baseline)}</th>"
    return f'<table class="heat"><thead><tr>{first}{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _baseline(plan: Plan, table: Table, finding: str) -> str:
    """Return the baseline's AUROC; of the first data set where there are several."""
    found = [method.findings[finding].auroc.mean for method in table.methods
             if method.method == plan.baseline and finding in method.findings]  # fmt: skip
    return f"{found[0]:.3f}" if found else "n/a"


def _cell(method: MethodResult, finding: str, largest: float) -> str:
    row = method.findings.get(finding)
    if row is None or row.difference is None:
        return '<td class="cell">n/a</td>'
    value = row.difference.mean
    role, percent = "first" if value > 0 else "second", round(STRONGEST * min(abs(value) / largest, 1.0))
    sure = " sure" if excludes_zero(row.difference) else ""
    colour = f"background: color-mix(in srgb, var(--{role}) {percent}%, transparent)"
    return f'<td class="cell{sure}" style="{colour}">{value:+.3f}</td>'
