"""Numbers of a comparison as people read them, on a terminal and on the page."""

from trainer.compare.comparison import MethodResult, Table
from trainer.compare.plan import Plan
from trainer.compare.uncertainty import Estimate, Share
from trainer.evaluation.intervals import FEWEST_CASES

NOT_THERE = "n/a"

WHEN = {"best": "at the best epoch on validation", "last": "at the last epoch"}
"""Checkpoint -> as the end of a sentence."""


def title_of(table: Table) -> str:
    """Return what a table shows, in one line."""
    return f"{table.test}, {WHEN[table.checkpoint]}: {what_is_measured(table)}"


def what_is_measured(table: Table) -> str:
    """Return what the mean is of, and how much it stands on."""
    if table.findings is None:
        return "not measured yet"
    num_findings = len(table.findings.columns_in_mean)
    of = f"of {num_findings} finding{'' if num_findings == 1 else 's'}" if num_findings else "of no finding"
    return f"mean AUROC {of}, {table.num_images:,} images of {table.num_patients:,} patients"


def text_table(plan: Plan, table: Table) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of one table."""
    columns = ["method", "seeds", "mean AUROC", f"difference to {plan.baseline} (95 %)"]
    columns += ["of the gap (95 %)"] if plan.compare.reference is not None else []
    rows = []
    for method in table.methods:
        row = [method.title, *cells(method)]
        rows.append(row[: len(columns)])
    return columns, rows


def cells(method: MethodResult) -> list[str]:
    """Return number of seeds, AUROC, difference and share of one row."""
    row = method.mean
    if row is None:
        return ["0", NOT_THERE, NOT_THERE, NOT_THERE]
    return [str(row.auroc.num_seeds), mean_and_sd(row.auroc), signed(row.difference), share_text(row.share)]


def mean_and_sd(auroc: Estimate) -> str:
    """Return a mean with its standard deviation over seeds."""
    return f"{auroc.mean:.3f}" + ("" if auroc.sd is None else f" ± {auroc.sd:.3f}")


def signed(difference: Estimate | None) -> str:
    """Return a difference with its interval; a dash for the baseline itself."""
    if difference is None:
        return "-"
    ends = "" if difference.interval is None else f" ({difference.interval[0]:+.3f}, {difference.interval[1]:+.3f})"
    return f"{difference.mean:+.3f}{ends}"


def share_text(share: Share | None) -> str:
    """Return a share of the gap with its interval, in percent."""
    if share is None:
        return NOT_THERE
    low, high = share.interval
    return f"{share.share:.0%} ({low:.0%}, {high:.0%})".replace("%", " %")


def excludes_zero(difference: Estimate | None) -> bool:
    """Tell whether the interval of a difference lies on one side of 0."""
    return difference is not None and difference.interval is not None and not (
        difference.interval[0] <= 0 <= difference.interval[1]
    )  # fmt: skip


def verdict(plan: Plan, table: Table) -> str:
    """Return one sentence that the numbers bear out, whichever way they fall; the reference is not in it."""
    if table.findings is not None and not table.findings.columns_in_mean:
        least = plan.compare.min_positives
        return (
            f"{first_upper(WHEN[table.checkpoint])} there is no mean to compare: no finding has {least} images with "
            f"and without it, of {FEWEST_CASES} patients each."
        )
    rows = [
        (method.title, method.mean.difference)
        for method in table.methods
        if method.mean is not None and method.method != plan.compare.reference
    ]
    measured = [(name, difference) for name, difference in rows if difference is not None]
    if not measured:
        return f"{first_upper(WHEN[table.checkpoint])} there is nothing to compare with {plan.baseline} yet."
    if any(difference.interval is None for _, difference in measured):
        return f"{first_upper(WHEN[table.checkpoint])} there are too few patients or seeds for intervals."
    parts = []
    for side, is_above in (("above", True), ("below", False)):
        names = [
            f"{name} ({difference.mean:+.3f})"
            for name, difference in measured
            if excludes_zero(difference) and (difference.mean > 0) == is_above
        ]
        parts += [f"{_listed(names)} {'is' if len(names) == 1 else 'are'} {side} {plan.baseline}"] if names else []
    rest = sum(not excludes_zero(difference) for _, difference in measured)
    of_rest = f"{rest} of {len(measured)} differences cannot be told from chance" if rest else ""
    sentence = "; ".join(filter(None, [" and ".join(parts), of_rest]))
    one_seed = all(difference.num_seeds == 1 for _, difference in measured)
    caution = " One seed each: another training may turn this round." if one_seed else ""
    return f"{first_upper(WHEN[table.checkpoint])}, {sentence}.{caution}"


def first_upper(text: str) -> str:
    """Return a sentence's beginning; abbreviations in it stay as they are."""
    return text[:1].upper() + text[1:]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
