"""Tables of evaluations on a terminal of 80 columns."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from pipeline.console import err, out
from trainer.evaluation.calibration import Interval
from trainer.evaluation.metrics_file import EvaluationEntry
from trainer.evaluation.operating import FEWEST_TO_CHOOSE, OperatingRule
from trainer.evaluation.paired import PairedDifference
from trainer.report.summary import evaluation_title


def show(entry: EvaluationEntry) -> None:
    """Print the tables of one evaluation, what was left out, and the warnings."""
    title = f"{entry.dataset}, split {entry.split}, labels {entry.labels}, checkpoint {entry.checkpoint}"
    table = Table(title=f"{title}: {entry.num_images:,} images", title_justify="left")
    # 80 columns hold the names and the intervals of one measure; the report has those of both.
    table.add_column("finding", min_width=max(len(finding.finding) for finding in entry.metrics.findings))
    for name in ("positives", "negatives", "AUROC", "AP"):
        table.add_column(name, justify="right")
    for finding in entry.metrics.findings:
        table.add_row(
            finding.finding,
            f"{finding.positives:,}",
            f"{finding.negatives:,}",
            shown(finding.auroc, finding.auroc_interval),
            shown(finding.average_precision),
        )
    table.add_section()
    metrics, supported = entry.metrics, entry.metrics.supported
    table.add_row(
        f"mean of {metrics.num_findings_in_mean}, without No Finding", "", "",
        shown(metrics.mean_auroc, metrics.mean_auroc_interval),
        shown(metrics.mean_average_precision),
    )  # fmt: skip
    if supported is not None:
        table.add_row(
            f"mean of {supported.num_findings} with >= {supported.min_positives} positives", "", "",
            shown(supported.mean_auroc, supported.mean_auroc_interval),
            shown(supported.mean_average_precision),
        )  # fmt: skip
    out.print(table)
    for name, outputs in (entry.outputs or {}).items():
        scored = f"the maximum of {', '.join(outputs)}" if outputs else "no output of this label space"
        out.print(f"{name}: {scored}", markup=False)
    show_operating_points(entry)
    if metrics.mean_ece is not None:
        out.print(
            f"calibration: mean ECE {metrics.mean_ece:.3f} ({entry.calibration_bins} bins of equal mass), mean Brier "
            f"score {shown(metrics.mean_brier)}; each finding is in the report",
            markup=False,
        )
    for reason, number in entry.left_out.items():
        out.print(f"left out: {number:,} ({reason})", markup=False)
    for warning in entry.warnings:
        err.print(f"warning: {warning}", style="yellow", markup=False)


def show_operating_points(entry: EvaluationEntry) -> None:
    """Print the rates at the thresholds that validation chose, or why none was."""
    choice = entry.operating
    if choice is None:
        return
    if all(finding.operating_point is None for finding in entry.metrics.findings):
        why_not = choice.why_not or f"each finding has fewer than {FEWEST_TO_CHOOSE} validation images of a class"
        out.print(f"no operating points: {why_not}", markup=False)
        return
    title = f"thresholds by {rule_in_words(choice.rule)} on {choice.num_images:,} validation images"
    table = Table(title=title, title_justify="left")
    table.add_column("finding", min_width=max(len(finding.finding) for finding in entry.metrics.findings))
    for name in ("threshold", "sensitivity", "specificity", "PPV", "NPV"):
        table.add_column(name, justify="right", no_wrap=True)
    for finding in entry.metrics.findings:
        point = finding.operating_point
        rates = ["n/a"] * 5
        if point is not None:
            of_test = (point.sensitivity, point.specificity, point.ppv, point.npv)
            rates = [f"{point.chosen.threshold:.3g}", *("n/a" if rate is None else f"{rate:.3f}" for rate in of_test)]
        table.add_row(finding.finding, *rates)
    out.print(table)


def rule_in_words(rule: OperatingRule) -> str:
    """Return how thresholds are chosen, for people."""
    return "Youden's J" if rule.name == "youden" else f"{rule.name} >= {rule.at_least:g}"


def show_means(entries: Sequence[EvaluationEntry]) -> None:
    """Print one row a test set: images, mean AUROC and how many findings it is over."""
    table = Table(title="mean AUROC, without No Finding", title_justify="left")
    table.add_column("test set")
    for name in ("images", "all findings", "of", "enough positives", "of"):
        table.add_column(name, justify="right")
    for entry in entries:
        metrics, supported = entry.metrics, entry.metrics.supported
        table.add_row(
            evaluation_title(entry.as_values()),
            f"{entry.num_images:,}",
            _mean(metrics.mean_auroc, metrics.mean_auroc_interval),
            str(metrics.num_findings_in_mean),
            "" if supported is None else _mean(supported.mean_auroc, supported.mean_auroc_interval),
            "" if supported is None else str(supported.num_findings),
        )
    out.print(table)


def show_differences(differences: Sequence[PairedDifference], run: Path, against: Path, min_positives: int) -> None:
    """Print the table of the paired differences of AUROC."""
    title = f"AUROC of {run.resolve().name} less that of {against.resolve().name}"
    table = Table(title=title, title_justify="left")
    table.add_column("finding", min_width=max(len(row.name) for row in differences))
    for name in ("AUROC", "other", "difference", "DeLong p"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in differences:
        if row.name == "mean":
            table.add_section()
        name = f"mean, findings with >= {min_positives} positives" if row.name == "mean" else row.name
        ends = "" if row.interval is None else f" ({row.interval[0]:+.3f}, {row.interval[1]:+.3f})"
        table.add_row(
            name, shown(row.first), shown(row.second),
            "n/a" if row.difference is None else f"{row.difference:+.3f}{ends}",
            "n/a" if row.delong_p is None else f"{row.delong_p:.2g}",
        )  # fmt: skip
    out.print(table)


def shown(value: float | None, interval: Interval | None = None) -> str:
    """Return a metric with four digits, or n/a, and its interval where it has one."""
    ends = "" if interval is None else f" ({interval[0]:.3f}-{interval[1]:.3f})"
    return "n/a" if value is None else f"{value:.4f}{ends}"


def _mean(value: float | None, interval: Interval | None) -> str:
    ends = "" if interval is None else f"\n({interval[0]:.3f}-{interval[1]:.3f})"
    return "n/a" if value is None else f"{value:.4f}{ends}"
