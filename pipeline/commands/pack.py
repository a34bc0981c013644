"""`cxr-prep pack`: from a manifest and its release to a pack."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipeline.console import err, progress_bar
from pipeline.image_spec import Resize
from pipeline.pack_format import PackFormat, training_command

if TYPE_CHECKING:
    from pipeline.packing.config import PackConfig


def pack(
    manifest: Annotated[Path | None, typer.Option(help="Manifest; by default the only one of the workspace.")] = None,
    root: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[DATASET=]DIR",
            help="Folder of the release, by default the last one that `build-manifest` read; for a merged manifest, "
            "one for each dataset.",
        ),
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Pack only this split; may be repeated.")] = None,
    pack_format: Annotated[
        PackFormat,
        typer.Option(
            "--format",
            help="raw: arrays that are memory-mapped; tar: JPEG or PNG shards for WebDataset and DALI; beton: one file "
            "for FFCV.",
        ),
    ] = "raw",
    size: Annotated[
        str, typer.Option(metavar="S|HxW", help="Size of the images: 256 is 256 x 256 px, 320x256 is height x width.")
    ] = "256",
    resize: Annotated[
        Resize,
        typer.Option(
            help="How an image is fitted: stretched to the size, scaled to fit with black borders, or scaled to cover "
            "and cropped."
        ),
    ] = "square",
    bits: Annotated[int, typer.Option(help="Depth of a pixel, 8 or 16; 16 for tar with PNG.")] = 8,
    exact: Annotated[
        bool, typer.Option("--exact", help="Decode JPEG sources in full, not at the smallest sufficient scale.")
    ] = False,
    image: Annotated[
        Literal["jpg", "png"] | None, typer.Option(help="tar: JPEG (default), or PNG without loss.")
    ] = None,
    quality: Annotated[int | None, typer.Option(help="tar with JPEG: quality, 1 to 100.")] = None,
    colour: Annotated[
        Literal["gray", "rgb"] | None, typer.Option(help="beton: gray (default), or RGB for other FFCV code.")
    ] = None,
    with_targets: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL_SPACE",
            help="tar, beton: add float32 targets for foreign readers, NaN where null. cxr-train needs none.",
        ),
    ] = None,
    max_rejects: Annotated[
        str | None,
        typer.Option(metavar="COUNT|PERCENT%", help="Stop as soon as more images are rejected, such as 25 or 1%."),
    ] = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder of the pack; by default packs/DATASET-SIZE-FORMAT.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that decode; by default one a usable core.")] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="local: processes of this machine; ray: a Ray cluster with a shared file system."),
    ] = "local",
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted pack.")] = False,
    verify: Annotated[
        Literal["full", "none"],
        typer.Option(help="Shards that are there already: read again and compare checksums, or sizes only."),
    ] = "full",
    shard_range: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Pack only share I (from 0) of N; all into one folder on a shared file system. In a Slurm array "
            "0-9: --shard-range $SLURM_ARRAY_TASK_ID/10. Then --finish.",
        ),
    ] = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="Make the pack of what all shard ranges have packed.")
    ] = False,
) -> None:
    """Decode, resize and store all images of a manifest.

    The pack appears whole or not at all; interrupted, it is continued with `--resume`. Images that cannot be decoded
    are listed with their reasons in rejected.parquet and keep their number. The bytes are the same for any number of
    workers, shard ranges and machines.

    Exit code 1: stopped by `--max-rejects`; finished shards are kept.
    """
    from manifests.table import read_manifest
    from manifests.workspace import Workspace
    from pipeline.cores import usable_cores
    from pipeline.image_spec import ImageSpec
    from pipeline.packing.config import PackConfig
    from pipeline.packing.rejects import RejectLimit
    from pipeline.packing.shard_range import ShardRange

    height_px, width_px = parse_size(size)
    config = PackConfig(
        format=pack_format,
        spec=ImageSpec(height_px=height_px, width_px=width_px, resize=resize, bits=parse_bits(bits), exact=exact),
        encoding=encoding_of(pack_format, image=image, quality=quality, colour=colour, targets=with_targets),
        splits=tuple(split or ()),
        max_rejects=None if max_rejects is None else RejectLimit(text=max_rejects),
        engine=engine,
        num_workers=usable_cores() if workers is None else workers,
        resume=resume,
        verify=verify,
        shard_range=None if shard_range is None else ShardRange.parse(shard_range),
        finish=finish,
    )
    workspace = Workspace.current()
    manifest = manifest or workspace.only_manifest()
    table = read_manifest(manifest)
    roots = choose_roots(table.datasets, given=root or (), remembered=workspace.roots())
    folder = out_folder or workspace.pack_path(table.dataset, config.spec.size, pack_format)
    run(
        manifest,
        roots,
        folder,
        config,
        train_command=training_command(config.format, config.encoding.colour, out_folder),
    )


def run(manifest: Path, roots: Mapping[str, Path], folder: Path, config: "PackConfig", *, train_command: str) -> None:
    """Pack all shards, or a range of them, with a progress bar; print what came of it."""
    from pipeline.commands.pack_report import show, show_range
    from pipeline.packing import kernels
    from pipeline.packing.packer import pack_manifest, pack_range
    from pipeline.packing.partial import PartialPack

    if kernels.library is None:
        err.print(f"warning: {kernels.MISSING}", markup=False)
    try:
        with progress_bar("images") as bar:
            task = bar.add_task("pack", total=None)

            def on_progress(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            packer: Callable[..., Any] = pack_manifest if config.shard_range is None else pack_range
            summary = packer(manifest, root=roots, out=folder, config=config, on_progress=on_progress)
    except KeyboardInterrupt:
        partial = PartialPack.of(folder)
        if partial.folder.is_dir():
            how = "" if config.shard_range else " and --resume"
            err.print(
                f"finished shards are kept in {partial.folder}; continue with the same command{how}", markup=False
            )
        raise
    if config.shard_range is None:
        show(summary, train_command)
    else:
        show_range(summary, config)


def encoding_of(pack_format: PackFormat, **options: Any) -> Any:
    """Return the `Encoding` of the options that were given (those that are not None).

    Raises:
        ConfigError: one of them means nothing for this format, whatever its value.
    """
    from pipeline.encoding import Encoding, refuse_meaningless

    given = {name: value for name, value in options.items() if value is not None}
    encoding = Encoding(**given)
    refuse_meaningless(pack_format, encoding, given)
    return encoding


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


def parse_bits(bits: int) -> Literal[8, 16]:
    """Return a depth that there is.

    Raises:
        ConfigError: there is no such depth.
    """
    from manifests.errors import ConfigError

    if bits == 8:
        return 8
    if bits == 16:
        return 16
    raise ConfigError(f"--bits {bits}: expected 8 or 16")


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
