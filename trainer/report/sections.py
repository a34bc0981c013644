"""The sections of a report, each from one part of the run's record; a part that is not there gives no section."""

from typing import Any

from trainer.report.figures import EPOCH_LABEL, Line, Panel, panel_grid
from trainer.report.page import card, heading, paragraph, settings_table
from trainer.report.record import RunRecord

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
    figure = panel_grid(
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
    figure = panel_grid(panels, columns=7, width_in=1.4, height_in=1.2, label="Validation AUROC of each finding")
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
    figure = panel_grid(panels, columns=2, width_in=4.9, height_in=1.9, left_in=0.42, label="Throughput and data wait")
    median = sorted(speed)[len(speed) // 2]
    text = f"Median {median:,.0f} images/s; {sum(waits) / len(waits):.1f} % of the time went into waiting for data."
    return heading("Speed") + paragraph(text) + card(figure)


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
