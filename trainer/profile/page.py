"""profile.html: a profile in one file, without scripts, light or dark."""

from html import escape
from pathlib import Path

from manifests.atomic import write_bytes_atomically
from manifests.errors import ConfigError
from trainer.profile.figures import rates_figure, style, timeline_figure
from trainer.profile.measurements import Measurements
from trainer.profile.model import limits_of
from trainer.profile.tables import (
    Table,
    environment_rows,
    rates,
    sentences,
    step_split,
    subject_rows,
    what_if_table,
)
from trainer.profile.verdict import Verdict, shown, verdict_of
from trainer.profile.what_if import what_ifs
from trainer.report.page import card, heading, key_figures, page, paragraph, settings_table, warnings_box

DEVICE_TIME = " Times are the GPU's own: a data wait is one that it noticed."

MEANINGS = {
    "DISK": "training waits for the disk",
    "DECODE": "training waits for batches to be made",
    "COPY": "training waits for copies to the GPU",
    "AUGMENT": "preparing images takes the time",
    "COMPUTE": "the network takes the time",
    "COMMUNICATION": "sums over ranks take the time",
    "STRAGGLER": "ranks wait for a slower one",
}


def write_page(path: Path, measured: Measurements) -> Path:
    """Write the page; return its path.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        write_bytes_atomically(path, page_html(measured).encode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error}); name another file with --html") from error
    return path


def page_html(measured: Measurements) -> str:
    """Return the page; the same measurements give the same bytes."""
    verdict = verdict_of(measured)
    subject = measured.subject
    said = list(sentences(verdict, measured, limits_of(measured)))
    cautions = [sentence for sentence in said if sentence.startswith("Caution")]
    options = "".join(f"<li>{_option(option)}</li>" for option in verdict.repair.options)
    body = [
        paragraph(f"Profile of training: {subject.model}, {subject.loss}, --loader {subject.loader}", "kicker"),
        heading(f"Bound by {verdict.title}: {MEANINGS[verdict.cause]}", 1),
        paragraph(" ".join(sentence for sentence in said if sentence not in cautions), "lead"),
        key_figures(_key_numbers(verdict)),
        warnings_box(cautions),
        heading("What to try", 3),
        f"<ul>{options}</ul>",
        heading("The last steps"),
        paragraph("Each line begins a step." + (DEVICE_TIME if subject.device == "cuda" else "")),
        card(timeline_figure(measured)),
        heading("What limits the rate"),
        paragraph(
            "The dashed line is the rate as it runs. By the model it is the least of loader, step, cores and reading; "
            "where loader and step share cores, these count. Bars are cut where a stage is far from limiting anything."
        ),
        card(rates_figure(measured, verdict)),
        card(_html(rates(measured))),
        heading("The split of a step"),
        *(heading(table.title, 3) + card(_html(table)) for table in step_split(measured)),
        heading("What if"),
        card(_html(what_if_table(what_ifs(measured)))),
        paragraph("Hours are of the run's epochs, without validation and checkpoints.", "small"),
        heading("What was measured, and where"),
        '<div class="settings">'
        + settings_table("run", subject_rows(measured))
        + settings_table("environment", environment_rows(measured))
        + "</div>",
    ]
    return page(f"{verdict.title} — profile of training", f"<style>{style()}</style>\n" + "\n".join(body))


def _key_numbers(verdict: Verdict) -> list[tuple[str, str]]:
    repaired = verdict.repair
    bound = f"{repaired.bound}, " if repaired.bound else ""
    return [
        (shown(verdict.images_per_s), "images/s as it runs"),
        (shown(verdict.model_images_per_s), "images/s by the model"),
        (shown(repaired.images_per_s), f"images/s {bound}if {repaired.assumption}"),
    ]


def _option(option: str) -> str:
    """Return an option as HTML; of one that is typed, what is typed as code."""
    typed, colon, why = option.partition(":")
    is_typed = typed.startswith(("--", "cxr-"))
    return f"<code>{escape(typed)}</code>{colon}{escape(why)}" if is_typed else escape(option)


def _html(table: Table) -> str:
    first_text = len(table.columns) - table.num_texts
    header = "".join(
        f"<th{' class=number' if 0 < number < first_text else ''}>{escape(column)}"
        for number, column in enumerate(table.columns)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=number' if 0 < number < first_text else ' class=small' if number else ''}>{escape(cell)}</td>"
            for number, cell in enumerate(row)
        )
        + "</tr>"
        for row in table.rows
    )
    return f"<table><tr>{header}</tr>{rows}</table>"
