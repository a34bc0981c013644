"""The sections of a report, each from one part of the run's record; a part that is not there gives no section."""

from html import escape
from typing import Any

from manifests.findings import NO_FINDING
from trainer.evaluation.metrics import ENOUGH_POSITIVES
from trainer.evaluation.predictions import read_predictions
from trainer.report.curves import curve_panels
from trainer.report.figures import EPOCH_LABEL, Line, Panel, grid_svg
from trainer.report.page import card, heading, paragraph, settings_table, warnings_box
from trainer.report.record import RunRecord
from trainer.report.summary import evaluation_title

NAN = float("nan")


def training_section(record: RunRecord) -> str:
    """Return the curves of the losses, the validation and the learning rate."""
    epochs = record.of_kind("epoch")
    if not epochs:
        return ""
    x = [epoch["epoch"] + 1 for epoch in epochs]

    def over_epochs(key: str) -> list[float]:
        return [NAN if epoch.get(key) is None else epoch[key] for epoch in epochs]

    has_regulariser = any(epoch.get("reg") for epoch in epochs)
    losses = [Line(x=x, y=over_epochs("loss"), label="loss" if has_regulariser else "")]
    if has_regulariser:
        losses.append(Line(x=x, y=over_epochs("bce"), label="cross-entropy", role="second"))
    panels = [Panel(title="Training loss, mean of each epoch", lines=losses, x_label=EPOCH_LABEL)]
    if has_regulariser:
        panels.append(
            Panel(title="Regulariser, before its weight", lines=[Line(x=x, y=over_epochs("reg"))], x_label=EPOCH_LABEL)
        )
    scores = over_epochs("valid_mean_auroc")
    if any(score == score for score in scores):
        best = max((score, -position) for position, score in enumerate(scores) if score == score)
        point = (x[-best[1]], best[0], f"{best[0]:.3f}")
        panels.append(
            Panel(
                title="Mean AUROC on validation, best marked",
                lines=[Line(x=x, y=scores, role="second")],
                points=[point],
                x_label=EPOCH_LABEL,
            )
        )
    figure = grid_svg(
        panels, columns=len(panels), width_in=9.8 / len(panels), height_in=2.4, left_in=0.42, label="Training"
    )
    return heading("Training") + card(figure) + _validation_by_finding(epochs, x)


def _validation_by_finding(epochs: list[dict[str, Any]], x: list[int]) -> str:
    """Return one small panel a finding with its validation AUROC over the epochs."""
    names = list(next((epoch["valid_auroc"] for epoch in epochs if epoch.get("valid_auroc")), {}))
    panels = []
    for name in names:
        values = [(epoch.get("valid_auroc") or {}).get(name) for epoch in epochs]
        there = [value for value in values if value is not None]
        if there:
            line = Line(x=x, y=[NAN if value is None else value for value in values], role="second")
            low = min(0.45, *there)
            limits = (min(x) - 0.5, max(x) + 0.5, low, 1.0)
            chance = Line(x=limits[:2], y=(0.5, 0.5), role="rule", dashed=True, width=1)
            panels.append(
                Panel(title=name.replace("_", " "), lines=[chance, line], limits=limits, y_ticks=(0.5, 0.75, 1))
            )
    if not panels:
        return ""
    figure = grid_svg(panels, columns=7, width_in=1.4, height_in=1.2, label="Validation AUROC of each finding")
    return heading("Validation AUROC of each finding, by epoch", 3) + card(figure)


def speed_section(record: RunRecord) -> str:
    """Return the throughput and the share of time that training waited for data, over the logged steps."""
    points = [event for event in record.of_kind("train") if event.get("images_per_s") is not None]
    points = points or [event for event in record.of_kind("epoch") if event.get("images_per_s") is not None]
    if not points:
        return ""
    x = [event["step"] for event in points]
    speed = [event["images_per_s"] for event in points]
    waits = [100 * (event.get("data_wait_fraction") or 0.0) for event in points]
    x_to = max(x) * 1.02 + 1
    panels = [
        Panel(title="Images per second", lines=[Line(x=x, y=speed)], x_label="step",
              limits=(0, x_to, 0, max(speed) * 1.15 + 1e-9)),
        Panel(title="Share of time spent waiting for data, in percent", lines=[Line(x=x, y=waits, role="second")],
              x_label="step", limits=(0, x_to, 0, max(5.0, *waits) * 1.15)),
    ]  # fmt: skip
    figure = grid_svg(panels, columns=2, width_in=4.9, height_in=1.9, left_in=0.42, label="Throughput and data wait")
    median = sorted(speed)[len(speed) // 2]
    text = f"Median {median:,.0f} images/s; {sum(waits) / len(waits):.1f} % of the time went into waiting for data."
    return heading("Speed") + paragraph(text) + card(figure)


def overview(evaluations: tuple[dict[str, Any], ...]) -> str:
    """Return one line an evaluation."""
    rows = "".join(
        f"<tr><td>{escape(evaluation_title(entry))}</td><td class=number>{entry['num_images']:,}</td>"
        f"<td class=number>{_with_interval(entry, 'mean_auroc')}</td>"
        f"<td class=number>{_with_interval(entry, 'mean_average_precision')}</td>"
        f"<td class=number>{entry['num_findings_in_mean']}</td></tr>"
        for entry in evaluations
    )
    return card(
        "<table><tr><th>evaluation<th class=number>images<th class=number>mean AUROC"
        f"<th class=number>mean AP<th class=number>findings in the mean</tr>{rows}</table>"
    )


def evaluation_section(record: RunRecord, entry: dict[str, Any]) -> str:
    """Return the table and the curves of one evaluation."""
    parts = [heading(evaluation_title(entry), 3)]
    enough = _enough(entry)
    few = [
        f"{finding['finding']}: {finding['positives']} positives, fewer than {enough}: this number is noise"
        for finding in entry["findings"]
        if finding["auroc"] is not None and finding["positives"] < enough
    ]
    parts += [warnings_box([*entry.get("warnings", ()), *few]), card(_metrics_table(entry))]
    file = record.folder / entry.get("predictions", "")
    if file.is_file():
        by_name = {finding["finding"]: finding for finding in entry["findings"]}
        roc, precision_recall = curve_panels(read_predictions(file), by_name)
        for title, panels in (
            ("ROC: sensitivity over 1 - specificity", roc),
            ("Precision over recall; dashed: the share of positives", precision_recall),
        ):
            if panels:
                figure = grid_svg(panels, columns=7, width_in=1.4, height_in=1.5, label=title)
                parts.append(card(f'<p class="small">{escape(title)}</p>{figure}'))
    return "".join(parts)


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
            f'<tr class="{" ".join(kinds)}"><td>{escape(finding["finding"].replace("_", " "))}</td>'
            f"<td class=number>{finding['positives']:,}</td><td class=number>{finding['negatives']:,}</td>"
            f"<td class=number>{_with_interval(finding, 'auroc')}</td><td class=scale>{bar}</td>"
            f"<td class=number>{_with_interval(finding, 'average_precision')}</td></tr>"
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
        f"<td class=number>{_with_interval(means, 'mean_auroc')}</td><td></td>"
        f"<td class=number>{_with_interval(means, 'mean_average_precision')}</td></tr>"
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


def _with_interval(values: dict[str, Any], name: str) -> str:
    interval = values.get(f"{name}_interval")
    ends = "" if interval is None else f" <small>({interval[0]:.3f} to {interval[1]:.3f})</small>"
    return f"{_number(values[name])}{ends}"


def settings_section(title: str, values: dict[str, Any]) -> str:
    """Return boxes of keys and values: one for the plain values and one for each object among them."""
    plain = [(key, _shown(value)) for key, value in values.items() if not isinstance(value, dict)]
    boxes = [settings_table("general", plain)] if plain else []
    for key, value in values.items():
        if isinstance(value, dict) and value:
            boxes.append(settings_table(key.replace("_", " "), [(name, _shown(item)) for name, item in value.items()]))
    return f'{heading(title)}<div class="settings">{"".join(boxes)}</div>' if boxes else ""


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
