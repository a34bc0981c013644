"""README's table of the demo: mean and standard deviation over seeds, from the newest row of each method and seed."""

from collections.abc import Mapping
from statistics import mean, stdev

SETTINGS = ("num_images", "size_px", "num_epochs", "quick")
"""Columns that all rows of one table share with the newest row."""


def demo_table(rows: list[dict[str, str]], methods: Mapping[str, str]) -> str:
    """Return the demo's table as Markdown.

    Args:
        rows: of `demo.csv`, in the order in which they were appended.
        methods: names in the CSV and what the table calls them, in the table's order; one without rows is left out.
    """
    rows = [row for row in rows if row["quick"] == "0"]
    alike = [row for row in rows if all(row[key] == rows[-1][key] for key in SETTINGS)]
    text = "| trained on noisy labels | best epoch by noisy validation | last epoch | seeds |\n|---|---|---|---|\n"
    for method, name in methods.items():
        by_seed = {row["seed"]: row for row in alike if row["method"] == method}
        if not by_seed:
            continue
        cells = [over_seeds([float(row[column]) for row in by_seed.values()]) for column in COLUMNS]
        if name.startswith("*"):  # a reference, set in italics as a whole
            cells = [f"*{cell}*" for cell in cells]
        text += f"| {name} | {' | '.join(cells)} | {len(by_seed)} |\n"
    return text


COLUMNS = ("clean_test_mean_auroc_best", "clean_test_mean_auroc_last")


def over_seeds(values: list[float]) -> str:
    """Return mean and standard deviation, to three decimals."""
    return f"{mean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"
