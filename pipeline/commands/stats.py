"""`cxr-prep stats`: what a manifest holds, in tables or JSON."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manifests.schema import SPLITS

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 180
"""Characters that the widest table may need."""


def stats(
    manifest: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A manifest; by default the only one of the workspace.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
    expert: Annotated[
        Path | None,
        typer.Option(
            "--against-expert",
            metavar="FILE",
            help="Also compare ChestX-ray14's labels with the experts', google2019_nih-chest-xray-labels.csv.gz.",
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page with tables and plots; it needs no network.")
    ] = None,
) -> None:
    """Count images, patients and labels a split, co-occurring findings, exclusions, and what label spaces select."""
    from manifests.stats import manifest_stats
    from manifests.table import read_manifest
    from manifests.workspace import Workspace

    path = manifest or Workspace.current().only_manifest()
    table = read_manifest(path)
    found = {"manifest": str(path), **manifest_stats(table)}
    if expert is not None:
        from manifests.expert import against_expert, read_expert_file

        found["against_expert"] = against_expert(table, read_expert_file(expert))
    if html is not None:
        write_page(html, found)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        show(found)


def write_page(path: Path, found: dict[str, Any]) -> None:
    """Write the page of a manifest, whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    from manifests.atomic import write_bytes_atomically
    from manifests.errors import ConfigError
    from manifests.stats_page import stats_page
    from pipeline.console import err

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomically(path, stats_page(found).encode())
    except OSError as error:
        raise ConfigError(f"--html {path}: cannot be written ({error.strerror})") from error
    err.print(f"written: {path}", markup=False)  # not to standard output, which may be JSON


def show(found: dict[str, Any]) -> None:
    """Print what `manifests.stats.manifest_stats` found, as tables."""
    from rich.console import Console

    from pipeline.console import err, out

    # A wide table runs over the edge of a narrow terminal, whole, where the shared console would cut its cells.
    wide = Console(file=out.file, width=max(out.width, WIDTH), highlight=False, soft_wrap=True)
    out.print(f"{found['dataset']}: {found['manifest']}", markup=False)
    for table in (splits_table, findings_table, co_occurrence_table, label_spaces_table):
        wide.print(table(found))
    if priors := training_priors(found):
        wide.print(priors_table(found["findings"], priors))
    else:
        out.print("priors: none, as no label space selects a training row", markup=False)
    meanings = found["exclusion_meanings"]
    left_out = [f"{count:,} {meanings.get(rule, rule)}" for rule, count in found["exclusions"].items() if count]
    out.print("left out when the manifest was built: " + (", ".join(left_out) or "nothing"), markup=False)
    if "against_expert" in found:
        wide.print(agreement_table(found["against_expert"]))
        for warning in found["against_expert"]["warnings"]:
            err.print(f"warning: {warning}", style="bold yellow", markup=False)


def splits_table(found: dict[str, Any]) -> "Table":
    """Return images, patients, views, sexes and ages a split."""
    splits = found["splits"]
    table = _table("rows", "", *splits)
    table.add_row("images", *(_count(part["images"]) for part in splits.values()))
    table.add_row("patients", *(_count(part["patients"]) for part in splits.values()))
    for group, title in (("views", "view"), ("sex", "sex")):
        table.add_section()
        for value in splits["all"][group]:
            table.add_row(f"{title} {value}", *(_count(part[group].get(value, 0)) for part in splits.values()))
    table.add_section()
    for name in splits["all"]["age_years"]:
        values = (part["age_years"][name] for part in splits.values())
        table.add_row(f"age {name.replace('_', ' ')}", *("n/a" if value is None else f"{value:,g}" for value in values))
    return table


def findings_table(found: dict[str, Any]) -> "Table":
    """Return positives a finding and split, with their share; and what is uncertain or not labelled."""
    splits = list(found["splits"])
    extra = [
        kind
        for kind in ("uncertain", "not_labelled")
        if any(counts["all"][kind] for counts in found["findings"].values())
    ]
    table = _table("positive labels", "", *splits, *(kind.replace("_", " ") for kind in extra))
    for finding, counts in found["findings"].items():
        table.add_row(
            finding,
            *(_with_share(counts[split]["positive"], sum(counts[split].values())) for split in splits),
            *(_count(counts["all"][kind]) for kind in extra),
        )
    return table


def co_occurrence_table(found: dict[str, Any]) -> "Table":
    """Return the lower triangle of the images that bear both findings; numbers stand for the columns' names."""
    names = found["co_occurrence"]["findings"]
    table = _table("images that bear both findings", "", *(str(number) for number in range(1, len(names) + 1)))
    for row, (name, counts) in enumerate(zip(names, found["co_occurrence"]["counts"], strict=True)):
        table.add_row(f"{row + 1} {name}", *(str(count) for count in counts[: row + 1]))
    return table


def label_spaces_table(found: dict[str, Any]) -> "Table":
    """Return the rows that each label space selects and leaves out, a split."""
    table = _table("label spaces: rows", "", *SPLITS)
    for name, space in found["label_spaces"].items():
        table.add_row(name, *(_count(space["selected"][split]) for split in SPLITS))
        reasons = {reason: None for counts in space["left_out"].values() for reason in counts}
        for reason in reasons:
            table.add_row(
                f"  left out: {reason}", *(_count(space["left_out"][split].get(reason, 0)) for split in SPLITS)
            )
    return table


def training_priors(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return label space and form -> finding -> prior of the training rows, where there are any."""
    return {
        f"{name} {form}": prior
        for name, space in found["label_spaces"].items()
        for form, prior in space["train_priors"].items()
        if prior is not None
    }


def priors_table(findings: Iterable[str], priors: dict[str, dict[str, float]]) -> "Table":
    """Return the priors of each label space's training rows."""
    table = _table("priors of the training rows", "", *priors)
    for finding in findings:
        table.add_row(finding, *(f"{prior[finding]:.5f}" if finding in prior else "" for prior in priors.values()))
    return table


def agreement_table(found: dict[str, Any]) -> "Table":
    """Return, a finding and set of the experts, PPV and sensitivity of the labels of the manifest."""
    columns = ("set", "images", "experts' positives", "released positives", "PPV", "sensitivity")
    table = _table("labels of this manifest against the experts'", "", *columns)
    for finding, by_set in found["agreement"].items():
        table.add_section()
        for name, counts in by_set["sets"].items():
            if counts is None:
                table.add_row(finding, name, *["not labelled here", *[""] * (len(columns) - 2)])
                continue
            confirmed = counts["true_positives"]
            table.add_row(
                f"{finding} ({' or '.join(by_set['released'])})" if by_set["released"] != [finding] else finding,
                name,
                _count(counts["images"]),
                _count(confirmed + counts["false_negatives"]),
                _count(confirmed + counts["false_positives"]),
                _rate(counts["ppv"]),
                _rate(counts["sensitivity"]),
            )
    return table


def _rate(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1%}"


def _table(title: str, *columns: str) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left", no_wrap=True)
    return table


def _count(count: int) -> str:
    return f"{count:,}"


def _with_share(count: int, of: int) -> str:
    return f"{count:,} ({count / of:.1%})" if of else f"{count:,}"
