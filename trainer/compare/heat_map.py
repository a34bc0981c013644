"""Differences to the baseline finding by finding, as a table whose cells have the colour of their number."""

from collections.abc import Sequence
from html import escape

from trainer.compare.comparison import MethodResult, Table
from trainer.compare.plan import Plan
from trainer.compare.text import excludes_zero

STRONGEST = 55
"""Share of the colour of the largest difference but for the reference, in percent: numbers stay legible."""


def heat_map(plan: Plan, table: Table) -> str | None:
    """Return the table as HTML; None where no method has a difference to show.

    Bold: the interval of the difference leaves 0 out. Findings that are not in the mean are muted and have no colour.
    """
    methods = [method for method in table.methods if method.method != plan.baseline]
    if table.findings is None or not any(row.difference for method in methods for row in method.findings.values()):
        return None
    largest = _largest_difference(plan, methods, [table.findings.names[n] for n in table.findings.columns_in_mean])
    head = "".join(f"<th>{escape(method.title)}</th>" for method in methods)
    rows = []
    for name, positives, patients, in_mean in zip(
        table.findings.names, table.findings.positives, table.findings.patients, table.findings.in_mean, strict=True
    ):
        cells = "".join(_cell(method, name, largest if in_mean else None) for method in methods)
        base = _baseline(plan, table, name)
        rows.append(
            f'<tr class="{"" if in_mean else "aside"}"><td>{escape(name.replace("_", " "))}</td><td>{positives:,}</td>'
            f"<td>{patients:,}</td><td>{base}</td>{cells}</tr>"
        )
    first = f"<th>finding</th><th>images with it</th><th>patients</th><th>{escape(plan.baseline)}</th>"
    return f'<table class="heat"><thead><tr>{first}{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _largest_difference(plan: Plan, methods: Sequence[MethodResult], names: Sequence[str]) -> float:
    """Return what has the strongest colour. The reference is far from all others, which would then have none."""
    differences = [
        abs(row.difference.mean)
        for method in methods
        for name in names
        if (row := method.findings.get(name)) is not None
        and row.difference is not None
        and method.method != plan.compare.reference
    ]
    return max(differences, default=0.0) or 1.0


def _baseline(plan: Plan, table: Table, finding: str) -> str:
    """Return the baseline's AUROC; of the first data set where there are several."""
    found = [method.findings[finding].auroc.mean for method in table.methods
             if method.method == plan.baseline and finding in method.findings]  # fmt: skip
    return f"{found[0]:.3f}" if found else "n/a"


def _cell(method: MethodResult, finding: str, largest: float | None) -> str:
    """Return a cell; without a largest difference it has no colour."""
    row = method.findings.get(finding)
    if row is None or row.difference is None:
        return '<td class="cell">n/a</td>'
    value = row.difference.mean
    sure = " sure" if excludes_zero(row.difference) else ""
    if largest is None:
        return f'<td class="cell{sure}">{value:+.3f}</td>'
    role, percent = "first" if value > 0 else "second", round(STRONGEST * min(abs(value) / largest, 1.0))
    colour = f"background: color-mix(in srgb, var(--{role}) {percent}%, transparent)"
    return f'<td class="cell{sure}" style="{colour}">{value:+.3f}</td>'
