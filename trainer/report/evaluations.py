"""The evaluations of a run in its report: one line each, then for each its tables and curves."""

from html import escape
from typing import Any

from manifests.findings import NO_FINDING
from trainer.evaluation.metrics import ENOUGH_POSITIVES
from trainer.evaluation.predictions import read_predictions
from trainer.report.calibration import calibration_part
from trainer.report.curves import curve_panels
from trainer.report.differences import differences_part
from trainer.report.figures import panel_grid
from trainer.report.numbers import finding_name, number, with_interval
from trainer.report.operating_points import operating_part
from trainer.report.page import card, heading, paragraph, warnings_box
from trainer.report.record import RunRecord
from trainer.report.summary import evaluation_title


def overview(evaluations: tuple[dict[str, Any], ...]) -> str:
    """Return one line an evaluation: the mean AUROC of each test set, and over how many findings it is."""
    rows = "".join(
        f"<tr><td>{escape(evaluation_title(entry))}</td><td class=number>{entry['num_images']:,}</td>"
        f"<td class=number>{with_interval(entry, 'mean_auroc')}</td>"
        f"<td class=number>{entry['num_findings_in_mean']}</td>"
        f"{_supported_cells(entry)}"
        f"<td class=number>{number(entry.get('mean_ece'))}</td></tr>"
        for entry in evaluations
    )
    return card(
        "<table><tr><th>test set<th class=number>images<th class=number>mean AUROC<th class=number>findings"
        "<th class=number>mean AUROC, enough positives<th class=number>findings<th class=number>mean ECE</tr>"
        f"{rows}</table>"
    )


def evaluation_section(record: RunRecord, entry: dict[str, Any]) -> str:
    """Return the tables and the curves of one evaluation."""
    parts = [heading(evaluation_title(entry), 3)]
    enough = _enough(entry)
    few = [
        f"{finding['finding']}: {_positives(finding)}, fewer than {enough}: this number is noise"
        for finding in entry["findings"]
        if finding["auroc"] is not None and finding["positives"] < enough
    ]
    parts += [warnings_box([*entry.get("warnings", ()), *few]), _scored_against(entry), card(_metrics_table(entry))]
    file = record.folder / entry.get("predictions", "")
    predictions = read_predictions(file) if file.is_file() else None
    if predictions is not None:
        by_name = {finding["finding"]: finding for finding in entry["findings"]}
        roc, precision_recall = curve_panels(predictions, by_name)
        for title, panels in (
            ("ROC: sensitivity over 1 - specificity", roc),
            ("Precision over recall; dashed: the share of positives", precision_recall),
        ):
            if panels:
                figure = panel_grid(panels, columns=7, width_in=1.4, height_in=1.5, label=title)
                parts.append(card(f'<p class="small">{escape(title)}</p>{figure}'))
    parts += [operating_part(entry), calibration_part(entry, predictions)]
    parts += [differences_part(entry, found) for found in record.differences_of(entry)]
    return "".join(parts)


def _supported_cells(entry: dict[str, Any]) -> str:
    supported = entry.get("supported")
    if supported is None:
        return "<td></td><td></td>"
    return (
        f"<td class=number>{with_interval(supported, 'mean_auroc')}</td>"
        f"<td class=number>{supported['num_findings']}</td>"
    )


def _scored_against(entry: dict[str, Any]) -> str:
    """Return which outputs score each finding, where they are not the findings themselves."""
    outputs = entry.get("outputs")
    if not outputs:
        return ""
    sentences = [
        f"{name}: the maximum of {', '.join(map(finding_name, names))}."
        if names
        else f"{name}: n/a, the model has no such output."
        for name, names in outputs.items()
    ]
    return paragraph("Score of each finding. " + " ".join(sentences), "small")


def _positives(finding: dict[str, Any]) -> str:
    return f"{finding['positives']} positive{'s' if finding['positives'] != 1 else ''}"


def _enough(entry: dict[str, Any]) -> int:
    """Return the number of positives below which a number of this evaluation is called noise."""
    return int((entry.get("supported") or {}).get("min_positives", ENOUGH_POSITIVES))


def _metrics_table(entry: dict[str, Any]) -> str:
    rows = []
    enough = _enough(entry)
    for finding in entry["findings"]:
        auroc = finding["auroc"]
        kinds = ["aside"] * (finding["finding"] == NO_FINDING) + ["noise"] * (finding["positives"] < enough)
        # The bar starts at chance: what a coin reaches has no length.
        bar = (
            ""
            if auroc is None
            else f'<div><i style="width:{max(0.0, 2 * auroc - 1):.1%}"></i>{_whisker(finding)}</div>'
        )
        rows.append(
            f'<tr class="{" ".join(kinds)}"><td>{escape(finding_name(finding["finding"]))}</td>'
            f"<td class=number>{finding['positives']:,}</td><td class=number>{finding['negatives']:,}</td>"
            f"<td class=number>{with_interval(finding, 'auroc')}</td><td class=scale>{bar}</td>"
            f"<td class=number>{with_interval(finding, 'average_precision')}</td></tr>"
        )
    count = entry["num_findings_in_mean"]
    rows.append(_mean_row(f"Mean of {count} finding{'s' if count != 1 else ''}, without No Finding", entry))
    supported = entry.get("supported")
    if supported is not None:
        title = f"Mean of {supported['num_findings']} with at least {supported['min_positives']} positives"
        rows.append(_mean_row(title, supported))
    return (
        "<table><tr><th>finding<th class=number>positives<th class=number>negatives<th class=number>AUROC"
        f"<th>from chance to 1<th class=number>average precision</tr>{''.join(rows)}</table>"
        f"{_how_drawn(entry)}"
    )


def _mean_row(title: str, means: dict[str, Any]) -> str:
    return (
        f"<tr class=mean><td colspan=3>{title}</td>"
        f"<td class=number>{with_interval(means, 'mean_auroc')}</td><td></td>"
        f"<td class=number>{with_interval(means, 'mean_average_precision')}</td></tr>"
    )


def _how_drawn(entry: dict[str, Any]) -> str:
    """Return what the intervals are, for the foot of the table; nothing where there are none."""
    drawn = entry.get("bootstrap")
    if drawn is None:
        return ""
    what = "of patients" if drawn["resampling"] == "patient" else "of each class of a finding by itself (stratified)"
    return (
        f'<p class="small">In brackets: where {drawn["confidence"]:.0%} of {drawn["draws"]:,} bootstrap draws {what} '
        "lie. None where fewer than 5 cases have the finding, or fewer than 5 do not; a mean has one where all its "
        "findings have.</p>"
    )


def _whisker(finding: dict[str, Any]) -> str:
    """Return the interval of the AUROC on the scale from chance to 1; nothing where there is none."""
    interval = finding.get("auroc_interval")
    if interval is None:
        return ""
    left, right = (max(0.0, 2 * end - 1) for end in interval)
    return f'<u style="left:{left:.1%};width:{right - left:.1%}"></u>'
