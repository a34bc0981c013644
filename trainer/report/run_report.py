"""report.html of a run: what was trained, how it went, and what came out, in one file that opens without a network."""

from pathlib import Path

from manifests.atomic import write_bytes_atomically
from manifests.errors import ConfigError
from trainer.report.evaluations import evaluation_section, overview
from trainer.report.memorisation import memorisation_section
from trainer.report.page import heading, key_figures, page, paragraph, warnings_box
from trainer.report.record import RunRecord, read_record
from trainer.report.sections import settings_section, speed_section, training_section
from trainer.report.summary import history, key_numbers, summary

REPORT_FILE = "report.html"


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into a run folder from what is there: training, evaluations, or both; return its path.

    The same folder gives the same bytes.

    Raises:
        ConfigError: the folder holds no run, a file in it is damaged, or the report cannot be written.
    """
    record = read_record(run_dir)
    path = run_dir / REPORT_FILE
    try:
        write_bytes_atomically(path, report_html(record).encode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error})") from error
    return path


def report_html(record: RunRecord) -> str:
    """Return the report of a run as one HTML page."""
    parts = [
        paragraph("Training report", "kicker"),
        heading(record.name, 1),
        paragraph(summary(record), "lead"),
        key_figures(key_numbers(record)),
        warnings_box([event["message"] for event in record.of_kind("warning")]),
    ]
    if record.evaluations:
        parts += [heading("Evaluation"), overview(record.evaluations)]
        parts += [evaluation_section(record, entry) for entry in record.evaluations]
    parts += [
        training_section(record),
        memorisation_section(record),
        speed_section(record),
        settings_section("Configuration", record.config),
        settings_section("History and environment", history(record)),
    ]
    return page(f"{record.name} — training report", "\n".join(part for part in parts if part))
