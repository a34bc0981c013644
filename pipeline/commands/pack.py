"""`cxr-prep pack`: from a manifest and its release to a pack."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.console import err, out, progress_bar
from pipeline.pack_format import PackFormat

if TYPE_CHECKING:
    from pipeline.packing.packer import PackSummary

LOUD_REJECTED_FRACTION = 0.01
"""From here on rejected images are a warning and not a line of the summary."""


def pack(
    manifest: Annotated[Path | None, typer.Option(help="Manifest; by default the only one of the workspace.")] = None,
    root: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[DATASET=]DIR",
            help="Folder of the release, by default the one the manifest was built from; for a merged manifest, "
            "one for each dataset.",
        ),
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Pack only this split; may be repeated.")] = None,
    pack_format: Annotated[PackFormat, typer.Option("--format", help="How pixels are stored.")] = "raw",
    size: Annotated[
        str, typer.Option(metavar="S|HxW", help="Size of the images: 256 is 256 x 256 px, 320x256 is height x width.")
    ] = "256",
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder of the pack; by default packs/DATASET-SIZE-FORMAT.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that decode; by default one a usable core.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted pack.")] = False,
) -> None:
    """Decode, resize and store all images of a manifest.

    The pack appears whole or not at all; interrupted, it is continued with `--resume`. Images that cannot be decoded
    are listed with their reasons in rejected.parquet and keep their number.
    """
    from manifests.table import read_manifest
    from manifests.workspace import Workspace
    from pipeline.cores import usable_cores
    from pipeline.image_spec import ImageSpec
    from pipeline.packing.config import PackConfig
    from pipeline.packing.packer import pack_manifest
    from pipeline.packing.partial import PartialPack

    height_px, width_px = parse_size(size)
    config = PackConfig(
        format=pack_format,
        spec=ImageSpec(height_px=height_px, width_px=width_px),
        splits=tuple(split or ()),
        num_workers=usable_cores() if workers is None else workers,
        resume=resume,
    )
    workspace = Workspace.current()
    manifest = manifest or workspace.only_manifest()
    table = read_manifest(manifest)
    roots = choose_roots(table.datasets, given=root or (), remembered=workspace.roots())
    folder = out_folder or workspace.pack_path(table.dataset, config.spec.size, pack_format)
    try:
        with progress_bar("images") as bar:
            task = bar.add_task("pack", total=None)
            summary = pack_manifest(
                manifest,
                root=roots,
                out=folder,
                config=config,
                on_progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except KeyboardInterrupt:
        partial = PartialPack.of(folder)
        if partial.folder.is_dir():
            err.print(
                f"finished shards are kept in {partial.folder}; continue with the same command and --resume",
                markup=False,
            )
        raise
    show(summary, train_command="cxr-train" if out_folder is None else f"cxr-train --pack {shlex.quote(str(folder))}")


def parse_size(text: str) -> tuple[int, int]:
    """Return height and width in px of `256` or `320x256` (height x width).

    Raises:
        ConfigError: it is neither.
    """
    from manifests.errors import ConfigError

    parts = text.split("x")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ConfigError(f"--size {text}: expected a number of px, or HEIGHTxWIDTH such as 320x256")
    return int(parts[0]), int(parts[-1])


def choose_roots(datasets: Sequence[str], *, given: Sequence[str], remembered: Mapping[str, str]) -> dict[str, Path]:
    """Return dataset -> folder of its release: as given (DIR, for all, or DATASET=DIR), else as remembered.

    Raises:
        ConfigError: two folders for one dataset.
        PackError: neither names a dataset's.
    """
    from manifests.errors import ConfigError
    from pipeline.errors import PackError

    roots: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        named = equals and name in datasets
        for dataset in [name] if named else datasets:
            if dataset in roots:
                raise ConfigError(f"--root {text}: another folder for the images of dataset {dataset!r}")
            roots[dataset] = Path(folder if named else text)
    for dataset in datasets:
        if dataset not in roots and dataset not in remembered:
            option = "--root" if len(datasets) == 1 else f"--root {dataset}=DIR"
            raise PackError(
                f"where the images of dataset {dataset!r} lie is not known here; name their folder with {option}"
            )
    return {dataset: roots.get(dataset) or Path(remembered[dataset]) for dataset in datasets}


def show(summary: "PackSummary", train_command: str) -> None:
    """Print what was packed, what was not, and what to do next."""
    from pipeline.pack import REJECTED_FILE
    from pipeline.packing.packer import count_reasons

    pack, num_rejected = summary.pack, len(summary.pack.rejected)
    resumed = f" ({summary.num_resumed:,} of them before the interruption)" if summary.num_resumed else ""
    reasons = f": {count_reasons(summary.rejected_by_reason)}" if num_rejected else ""
    lines = [
        f"images    {pack.num_samples - num_rejected:,} of {pack.num_samples:,} packed{resumed}",
        f"rejected  {num_rejected:,}{reasons}",
        f"size      {pack.spec.size} px, {summary.num_bytes / 2**20:,.1f} MiB in {len(pack.shards)} shards",
        f"speed     {summary.images_per_s:,.0f} images/s, {summary.elapsed_s:,.1f} s",
        f"pack      {pack.folder}",
        f"next      {train_command}",
    ]
    out.print("\n".join(lines), markup=False)
    if num_rejected > LOUD_REJECTED_FRACTION * pack.num_samples:
        err.print(
            f"warning: {num_rejected / pack.num_samples:.1%} of the images are rejected; "
            f"see {pack.folder / REJECTED_FILE} before you train on the rest",
            style="bold yellow",
            markup=False,
        )
