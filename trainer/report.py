"""report.html of a run: what was trained, how it went, and what came out, in one file that opens without a network."""

from pathlib import Path

from manifests.atomic import write_bytes_atomically
from trainer.report_page import heading, key_figures, page, paragraph, warnings_box
from trainer.report_record import RunRecord, read_record
from trainer.report_sections import (
    evaluation_section,
    evaluation_title,
    overview,
    settings_section,
    speed_section,
    training_section,
)

REPORT_FILE = "report.html"


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into a run folder from what is there: training, evaluations, or both; return its path.

    The same folder gives the same bytes.

    Raises:
        ConfigError: the folder holds no run, or a file in it is damaged.
    """
    record = read_record(run_dir)
    path = run_dir / REPORT_FILE
    write_bytes_atomically(path, report_html(record).encode())
    return path


def report_html(record: RunRecord) -> str:
    """Return the report of a run as one HTML page."""
    parts = [
        paragraph("Training report", "kicker"),
        heading(record.name, 1),
        paragraph(summary(record), "lead"),
        key_figures(_key_figures(record)),
        warnings_box([event["message"] for event in record.of_kind("warning")]),
    ]
    if record.evaluations:
        parts += [heading("Evaluation"), overview(record.evaluations)]
        parts += [evaluation_section(record, entry) for entry in record.evaluations]
    parts += [
        training_section(record),
        speed_section(record),
        settings_section("Configuration", {k: v for k, v in record.config.items() if k != "environment"}),
        settings_section("Environment", record.config.get("environment", {})),
    ]
    return page(f"{record.name} — training report", "\n".join(part for part in parts if part))


def summary(record: RunRecord) -> str:
    """Return one paragraph: model, method, data, length, and the first evaluation."""
    start = next(iter(record.of_kind("start")), {})
    epochs = record.of_kind("epoch")
    model, loss = record.setting("model") or record.setting("name"), record.setting("loss")
    sentences = []
    if epochs:
        images = f" on {start['num_train']:,} images" if start.get("num_train") else ""
        method = f" with the loss {loss}" if loss else ""
        sentences.append(f"{model or 'A model'} trained{method}{images} for {len(epochs)} epochs.")
    else:
        sentences.append("No epoch of this run has ended yet.")
    if record.evaluations:
        entry = record.evaluations[0]
        value = (
            "no finding had both classes" if entry["mean_auroc"] is None else f"mean AUROC {entry['mean_auroc']:.3f}"
        )
        sentences.append(
            f"Evaluated on {entry['num_images']:,} images ({evaluation_title(entry)}): {value} over "
            f"{entry['num_findings_in_mean']} findings."
        )
    else:
        sentences.append("Not evaluated yet: `cxr-train evaluate` adds its numbers here.")
    return " ".join(sentences)


def _key_figures(record: RunRecord) -> list[tuple[str, str]]:
    figures = [
        (f"{entry['mean_auroc']:.3f}", f"mean AUROC, {evaluation_title(entry)}")
        for entry in record.evaluations[:3]
        if entry["mean_auroc"] is not None
    ]
    scores = [epoch["valid_mean_auroc"] for epoch in record.of_kind("epoch") if epoch.get("valid_mean_auroc")]
    if scores:
        figures.append((f"{max(scores):.3f}", "best mean AUROC on validation"))
    return figures
