"""comparison.html: tables and plots of a comparison in one file, without scripts, light or dark."""

from collections.abc import Sequence
from html import escape

from trainer.compare.comparison import Table
from trainer.compare.curves import curves_section
from trainer.compare.heat_map import heat_map
from trainer.compare.method_table import method_table, methods_plot
from trainer.compare.plan import Plan
from trainer.compare.results import RunResult
from trainer.compare.settings_table import settings_of_methods
from trainer.compare.text import WHEN, first_upper, verdict, what_is_measured
from trainer.display import duration
from trainer.evaluation.intervals import FEWEST_CASES
from trainer.report.page import card, heading, key_figures, page, paragraph, warnings_box

STYLE = """
.card table.wide { min-width: 44rem; }
table.heat { font-size: .82rem; width: auto; }
table.heat th, table.heat td { padding: .3rem .45rem; text-align: right; white-space: nowrap; border: 0; }
table.heat th:first-child, table.heat td:first-child { text-align: left; }
table.heat thead th { vertical-align: bottom; white-space: normal; min-width: 3.6rem; max-width: 6.5rem; }
table.heat td.cell { border: 2px solid var(--card); border-radius: 5px; min-width: 4.4rem; }
table.heat td.sure { font-weight: 700; }
details > .card { margin-top: .6rem; }
.card + p { margin-top: 1.4rem; }
tr.baseline td, tr.reference td { color: var(--muted); }
td .sure { font-weight: 700; }
td code { overflow-wrap: anywhere; }
.stacked { display: none; }
@media (max-width: 48rem) {
  .card table.wide { min-width: 0; }
  table.wide th, table.wide td { white-space: normal; padding: .34rem .3rem; }
  .beside { display: none !important; }
  .stacked { display: block; }
}
"""

HEAT_LEGEND = (
    "Bold: the 95 % interval of the difference leaves 0 out. Muted: not in the mean. n/a: fewer than "
    f"{FEWEST_CASES} patients with the finding, or without it."
)


def comparison_html(plan: Plan, results: Sequence[RunResult], tables: Sequence[Table]) -> str:
    """Return the page."""
    name = plan.out.resolve().name
    parts = [
        paragraph("Comparison", "kicker"),
        heading(name, 1),
        paragraph(_lead(plan, tables), "lead"),
        key_figures(_key_numbers(plan, results)),
        warnings_box(_warnings(plan, results, tables)),
    ]
    for test in dict.fromkeys(table.test for table in tables):
        parts += _test_section(plan, [table for table in tables if table.test == test])
    parts += [curves_section(plan, results), _how(plan), settings_of_methods(plan), _runs(results)]
    body = "\n".join(part for part in parts if part)
    return page(f"{name} — comparison", f"<style>{STYLE}</style>\n{body}")


def _lead(plan: Plan, tables: Sequence[Table]) -> str:
    """Return what the tables of the first test set say."""
    sentences = [verdict(plan, table) for table in tables if table.test == tables[0].test]
    return " ".join(f"{tables[0].test}: {sentence}" if len(plan.tests) > 1 and number == 0 else sentence
                    for number, sentence in enumerate(sentences))  # fmt: skip


def _key_numbers(plan: Plan, results: Sequence[RunResult]) -> list[tuple[str, str]]:
    finished = sum(result.is_finished for result in results)
    figures = [(f"{finished} of {len(results)}", "runs finished"), (str(len(plan.methods)), "methods")]
    figures.append((str(len(plan.compare.seeds)), "seeds" if len(plan.compare.seeds) > 1 else "seed"))
    figures += [(str(len(plan.data)), "data sets")] if len(plan.data) > 1 else []
    trained_s = sum(result.training_s for result in results)
    return figures + ([(duration(trained_s), "of training")] if trained_s else [])


def _warnings(plan: Plan, results: Sequence[RunResult], tables: Sequence[Table]) -> list[str]:
    messages = [note for table in tables for note in table.notes]
    missing = [result.run.name for result in results if not result.is_finished]
    if missing:
        messages.append(f"{len(missing)} of {len(results)} runs are not finished: {', '.join(missing)}")
    for test in plan.tests:
        unmeasured = [
            result.run.name
            for result in results
            if result.is_finished
            and any((test.title, name) not in result.measured for name in plan.compare.checkpoints)
        ]
        if unmeasured:
            messages.append(f"not evaluated on {test.title}: {', '.join(unmeasured)}")
    if len(plan.compare.seeds) == 1:
        messages.append("one seed: the intervals speak of other patients, not of another training")
    num_shown = sum(method.mean is not None and method.mean.difference is not None
                    for table in tables for method in table.methods)  # fmt: skip
    if num_shown > 1:
        messages.append(
            f"{num_shown} differences of means are shown, each with a 95 % interval of its own: where nothing "
            "differs, one in 20 such intervals leaves 0 out"
        )
    return list(dict.fromkeys(messages))


def _test_section(plan: Plan, tables: Sequence[Table]) -> list[str]:
    first = tables[0]
    parts = [heading(f"On {first.test}"), paragraph(f"{first_upper(what_is_measured(first))}{_findings(first)}.")]
    for table in tables:
        parts.append(heading(first_upper(WHEN[table.checkpoint]), 3))
        parts.append(card(method_table(plan, table)))
        parts += [card(methods_plot(plan, table))] if any(method.mean for method in table.methods) else []
    legend = paragraph(HEAT_LEGEND, "small")
    for number, table in enumerate(tables):
        if (content := heat_map(plan, table)) is not None:
            opened = " open" if number == 0 else ""
            title = f"Finding by finding, {WHEN[table.checkpoint]}: AUROC less that of {plan.baseline}"
            parts.append(f"<details{opened}><summary>{escape(title)}</summary>{card(content)}{legend}</details>")
    return parts


def _findings(table: Table) -> str:
    if table.findings is None:
        return ""
    names = [table.findings.names[column].replace("_", " ") for column in table.findings.columns_in_mean]
    return f": {', '.join(names)}" if names else ""


def _how(plan: Plan) -> str:
    least = plan.compare.min_positives
    sentences = [
        heading("How the numbers come about"),
        paragraph(
            f"The mean is over the findings that every run has an output for and that have at least {least} images "
            f"with and without the finding, of at least {FEWEST_CASES} patients each; No Finding is left out. "
            "The same findings count for every run. ± is the standard deviation over seeds."
        ),
        paragraph(
            f"A difference is taken between runs of the same seed and data set, and averaged over seeds. Its 95 % "
            "interval is a t interval whose variance is the sum of two: that over seeds (sample variance divided by "
            f"their number), and that over {plan.compare.bootstrap:,} bootstrap draws of the test patients, the same "
            "draws for all runs. comparison.json also has an interval of each alone."
        ),
    ]
    if plan.compare.reference is not None:
        sentences.append(
            paragraph(
                f"Share of the gap: how far a method gets from {plan.baseline} towards {plan.compare.reference}, with "
                "Fieller's interval. It is n/a where the interval of the gap itself is not above 0."
            )
        )
    return "\n".join(sentences)


def _runs(results: Sequence[RunResult]) -> str:
    rows = "".join(_run_row(result) for result in results)
    head = "<tr><th>run</th><th>is</th><th class='number'>epochs</th><th class='number'>best epoch</th>"
    table = f"<table class='wide'>{head}<th class='number'>training</th></tr>{rows}</table>"
    return heading("Runs") + card(table)


def _run_row(result: RunResult) -> str:
    name = escape(result.run.name)
    if (result.run.folder / "report.html").is_file():
        name = f'<a href="runs/{name}/report.html">{name}</a>'
    state = "finished" if result.is_finished else ("unfinished" if result.record is not None else "not begun")
    best = "" if result.best_epoch is None else str(result.best_epoch)
    trained = duration(result.training_s) if result.epochs else ""
    cells = (str(len(result.epochs)), best, trained)
    return f"<tr><td>{name}</td><td>{state}</td>{''.join(f'<td class=number>{cell}</td>' for cell in cells)}</tr>"
