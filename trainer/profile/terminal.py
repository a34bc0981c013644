"""A profile as people read it in a terminal."""

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from trainer.profile.measurements import Measurements
from trainer.profile.model import limits_of
from trainer.profile.tables import Table, rates, sentences, step_split, what_if_table
from trainer.profile.verdict import Verdict
from trainer.profile.what_if import WhatIf


def show(console: Console, measured: Measurements, verdict: Verdict, rows: list[WhatIf]) -> None:
    """Print verdict, rates, splits and what-ifs."""
    console.print(f"bound by {verdict.title}", style="bold", markup=False)
    for sentence in sentences(verdict, measured, limits_of(measured)):
        console.print(sentence, markup=False)
    for number, option in enumerate(verdict.repair.options):
        console.print(f"{'try: ' if number == 0 else ' or: '}{option}", markup=False)
    for table in (rates(measured), *step_split(measured), what_if_table(rows)):
        console.print()
        console.print(_rich(table))


def _rich(table: Table) -> RichTable:
    shown = RichTable(title=table.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    first_text = len(table.columns) - table.num_texts
    for number, column in enumerate(table.columns):
        is_number = 0 < number < first_text
        shown.add_column(column, justify="right" if is_number else "left", no_wrap=is_number or number == 0)
    for row in table.rows:
        shown.add_row(*row)
    return shown
