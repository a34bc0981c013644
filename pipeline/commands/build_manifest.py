"""`cxr-prep build-manifest`: from a raw release to its manifest."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manifests.datasets import MODULES
from manifests.options import parse_assignments

if TYPE_CHECKING:
    from manifests.build import BuildReport

SIDE_TABLES = {"left-out": "left out, one a line", "unmapped-terms": "words that name no finding, with counts"}
"""Name of a side table -> how the summary announces it."""


def build_manifest(
    dataset: Annotated[str, typer.Option(help=f"Which release it is: {', '.join(MODULES)}.", show_default=False)],
    root: Annotated[Path, typer.Option(help="Folder of the release; nothing is written there.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Parquet file to write; by default manifests/DATASET.parquet in the workspace.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(metavar="SUBDIR", help="Take images below this folder of the root only.")
    ] = None,
    allow_missing_images: Annotated[
        bool, typer.Option("--allow-missing-images", help="Keep label rows whose image is not there.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Draws the patients that no official list assigns.")] = 0,
    valid_fraction: Annotated[float, typer.Option(help="Patients in validation, 0 to 0.5; never out of test.")] = 0.1,
    preset: Annotated[str | None, typer.Option(help="A set of the dataset's own options, such as paper.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An option of the dataset's own; `cxr-prep datasets NAME` lists them."),
    ] = None,
) -> None:
    """Read a release's label file and list its images; write one row an image, with labels and split.

    Label rows without a file and files without a label row are left out, counted and listed beside the manifest.
    """
    from manifests.build import BuildConfig
    from manifests.build import build_manifest as build
    from manifests.splits import SplitConfig
    from manifests.workspace import Workspace
    from pipeline.console import err

    workspace = Workspace.current()
    before = workspace.roots().get(dataset)  # an unreadable roots.json is an error before the work, not after it
    report = build(
        BuildConfig(
            dataset=dataset,
            root=root,
            out=out or workspace.manifest_path(dataset),
            images=images,
            allow_missing_images=allow_missing_images,
            split=SplitConfig(seed=seed, valid_fraction=valid_fraction),
            preset=preset,
            options=parse_assignments(option or ()),
        )
    )
    show(report)
    try:
        workspace.remember_root(dataset, root)
    except OSError as error:
        err.print(
            f"warning: {workspace.roots_file}: cannot be written ({error.strerror}); give --root to `cxr-prep pack`"
        )
    else:
        if before is not None and before != str(root.resolve()):
            err.print(
                f"warning: images of {dataset} are looked for in {root.resolve()} from now on, no longer in {before}; "
                "give --root to `cxr-prep pack` for manifests of that folder",
                markup=False,
            )


def show(report: "BuildReport") -> None:
    """Print what was written, what was left out, and the next command."""
    import shlex

    from rich.table import Table

    from manifests.workspace import Workspace
    from pipeline.console import out

    table = Table("", *report.splits, "all", title=f"{report.title}: images", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    images, patients = ([counts[part] for counts in report.splits.values()] for part in (0, 1))
    for name, counts in (("images", images), ("patients", patients)):
        table.add_row(name, *(f"{count:,}" for count in (*counts, sum(counts))))
    table.add_section()
    for finding, positives in report.positives.items():
        counts = list(positives.values())
        table.add_row(finding, *(f"{count:,}" for count in (*counts, sum(counts))))
    out.print(table)
    out.print(f"split: {report.split_rule}")
    for note in report.notes:
        out.print(f"note: {note}", markup=False)
    for rule, count in report.exclusions.items():
        if count:
            out.print(f"left out: {count:,} {report.meanings[rule]}")
    if report.num_unmapped:
        out.print(f"words that name no finding: {report.num_unmapped:,}")
    for name, path in report.side_tables.items():
        out.print(f"{SIDE_TABLES.get(name, name)}: {path}", markup=False)
    out.print(f"written in {report.elapsed_s:.2f} s: {report.out}", markup=False)
    manifests = Workspace.current().manifests
    by_default = report.out.parent == manifests and len(list(manifests.glob("*.parquet"))) == 1
    option = "" if by_default else f" --manifest {shlex.quote(str(report.out))}"
    out.print(f"next: cxr-prep pack{option}", markup=False)
