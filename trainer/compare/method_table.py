"""The table of the methods on one test set, and the plot beside it."""

from html import escape

from trainer.compare.comparison import MethodResult, Table
from trainer.compare.dot_plot import LAYOUTS, DotPanel, DotRow, dot_plot
from trainer.compare.plan import Plan
from trainer.compare.text import WHEN, cells, excludes_zero, text_table


def method_table(plan: Plan, table: Table) -> str:
    """Return the table as HTML; bold: the interval of the difference leaves 0 out."""
    columns, _ = text_table(plan, table)
    head = "".join(
        f"<th{' class=number' if number else ''}>{escape(column)}</th>" for number, column in enumerate(columns)
    )
    rows = "".join(_row(plan, method, len(columns) - 1) for method in table.methods)
    return f'<table class="wide"><tr>{head}</tr>{rows}</table>'


def methods_plot(plan: Plan, table: Table) -> str:
    """Return the plot of AUROCs and of differences to the baseline: side by side, and for narrow windows stacked."""
    methods = table.methods
    panels = [
        DotPanel(title="mean AUROC", rows=[_auroc(plan, method) for method in methods]),
        DotPanel(
            title=f"difference to {plan.baseline}, same seed",
            rows=[_difference(plan, method) for method in methods],
            zero=True,
        ),
    ]
    label = f"Mean AUROC of each method on {table.test} {WHEN[table.checkpoint]}, and differences to {plan.baseline}"
    return "".join(
        f'<div class="{kind}">{dot_plot([method.title for method in methods], panels, layout=kind, label=label)}</div>'
        for kind in LAYOUTS
    )


def _row(plan: Plan, method: MethodResult, num_cells: int) -> str:
    texts = [_unbroken(text) for text in cells(method)[:num_cells]]
    is_sure = method.mean is not None and excludes_zero(method.mean.difference)
    shown = [f'<span class="sure">{escape(text)}</span>' if is_sure and n == 2 else escape(text)
             for n, text in enumerate(texts)]  # fmt: skip
    kind = {plan.baseline: "baseline", plan.compare.reference: "reference"}.get(method.method, "")
    note = f" <small>({kind})</small>" if kind else ""
    numbers = "".join(f"<td class=number>{text}</td>" for text in shown)
    return f'<tr class="{kind}"><td>{escape(method.title)}{note}</td>{numbers}</tr>'


def _unbroken(text: str) -> str:
    """Return a number with spaces at which no line ends but before its interval."""
    for space in (" ± ", ", ", " %"):
        text = text.replace(space, space.replace(" ", "\N{NO-BREAK SPACE}"))
    return text


def _role(plan: Plan, method: MethodResult) -> str:
    return {plan.baseline: "muted", plan.compare.reference: "good"}.get(method.method, "first")


def _auroc(plan: Plan, method: MethodResult) -> DotRow:
    row = method.mean
    if row is None:
        return DotRow(mean=None, interval=None)
    return DotRow(
        mean=row.auroc.mean, interval=row.auroc.interval, seeds=list(row.by_seed.values()), role=_role(plan, method)
    )


def _difference(plan: Plan, method: MethodResult) -> DotRow:
    if method.mean is None or method.mean.difference is None:
        return DotRow(mean=None, interval=None)
    difference = method.mean.difference
    return DotRow(
        mean=difference.mean, interval=difference.interval, seeds=method.mean.differences_by_seed,
        role=_role(plan, method),
    )  # fmt: skip
