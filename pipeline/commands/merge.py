"""`cxr-prep merge`: several manifests as one, to train on all of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.console import out

if TYPE_CHECKING:
    from manifests.merge import MergeReport


def merge(
    manifests: Annotated[list[Path], typer.Argument(metavar="FILE FILE...", help="Two manifests or more.")],
    out_file: Annotated[
        Path | None,
        typer.Option("--out", help="Parquet file to write; by default manifests/A+B.parquet in the workspace."),
    ] = None,
) -> None:
    """Write the rows of several manifests into one: a finding that a source does not label is null in its rows.

    Patients, paths and splits stay as they are; an image that stands twice, or a patient in two splits, is an error.
    """
    from manifests.merge import JOINT, merge_manifests
    from manifests.table import read_manifest
    from manifests.workspace import Workspace

    if out_file is None:
        datasets = dict.fromkeys(name for path in manifests for name in read_manifest(path).datasets)
        out_file = Workspace.current().manifest_path(JOINT.join(datasets))
    show(merge_manifests(manifests, out_file))


def show(report: "MergeReport") -> None:
    """Print what was written, which source labels what, and the next command."""
    import shlex

    from rich.table import Table

    rows = Table("", *report.rows, "all", title=f"{report.dataset}: rows", title_justify="left")
    splits = list(next(iter(report.rows.values())))
    for split in splits:
        counts = [part[split] for part in report.rows.values()]
        rows.add_row(split, *(f"{count:,}" for count in (*counts, sum(counts))))
    labelled = Table("", *report.rows, title="labelled rows", title_justify="left")
    for finding, by_dataset in report.labelled.items():
        labelled.add_row(finding, *(f"{count:,}" if count else "not labelled" for count in by_dataset.values()))
    for table in (rows, labelled):
        for column in table.columns[1:]:
            column.justify = "right"
        out.print(table)
    out.print(f"written: {report.out}", markup=False)
    out.print(f"next: cxr-prep pack --manifest {shlex.quote(str(report.out))}", markup=False)
