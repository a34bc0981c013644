"""Which files are predicted: those that are named, those in folders, or the rows of a manifest."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import ConfigError
from manifests.table import read_manifest
from pipeline.errors import PackError
from pipeline.packing.config import PackConfig
from pipeline.packing.plan import make_plan
from pipeline.packing.sources.readers import require_readers


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Files in the order in which they are predicted, and what tells them apart in the table."""

    files: tuple[Path, ...]
    """Each of them one image."""

    names: Mapping[str, Sequence[str]]
    """Column -> its value for each file: path, and of a manifest's rows dataset and image_id too."""

    num_repeated: int = 0
    """Files that were named more than once."""


def named_files(images: Sequence[Path]) -> ImageFiles:
    """Return the files that are named, and all files below the folders that are named, each once.

    Folders are read to any depth in the order of their names, links to folders included; what begins with a dot is left
    out. A file's name does not decide whether it is an image.

    Raises:
        ConfigError: something is not there, all of it; or no file is left.
    """
    if not images:
        raise ConfigError("no images: name files or folders, or a manifest with --manifest")
    missing = [str(path) for path in images if not path.exists()]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ConfigError(f"no such file or folder: {', '.join(missing[:5])}{more}")
    found = [file for path in images for file in (_below(path) if path.is_dir() else [path])]
    if not found:
        raise ConfigError(f"{', '.join(map(str, images))}: no file in it; name a folder of images")
    first_named: dict[str, Path] = {}
    for file in found:
        first_named.setdefault(os.path.abspath(file), file)  # noqa: PTH100 - links stay
    once = tuple(first_named.values())
    require_readers(map(str, once))
    return ImageFiles(files=once, names={"path": [as_text(file) for file in once]}, num_repeated=len(found) - len(once))


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder; a folder that links lead to twice is read once."""
    been: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        here = os.path.realpath(parent)
        if here in been:
            folders.clear()
            continue
        been.add(here)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(parent, name)


def manifest_files(manifest: Path, roots: Mapping[str, Path], splits: Sequence[str] = ()) -> ImageFiles:
    """Return the files of a manifest's rows, in its order.

    Args:
        manifest: as `cxr-prep build-manifest` writes it.
        roots: dataset -> folder of its release.
        splits: rows of these only; all where it is empty.

    Raises:
        UserError: a manifest that cannot be used, a split that it does not have, a root that is not known or not there.
    """
    plan = make_plan(read_manifest(manifest), manifest, PackConfig(splits=tuple(splits)))
    for dataset in plan.datasets:
        if dataset not in roots or not roots[dataset].is_dir():
            raise PackError(
                f"{roots.get(dataset, f'dataset {dataset!r}')}: no folder of images; name it with --root {dataset}=DIR"
            )
    columns = {name: plan.table.column(name).to_pylist() for name in ("dataset", "image_id", "path")}
    files = tuple(roots[dataset] / path for dataset, path in zip(columns["dataset"], columns["path"], strict=True))
    return ImageFiles(files=files, names={"path": [as_text(file) for file in files], **_besides(columns, "path")})


def as_text(path: Path) -> str:
    """Return a path as UTF-8 can hold it: a byte that is none of UTF-8 becomes its escape."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _besides(columns: dict[str, list[str]], name: str) -> dict[str, list[str]]:
    return {other: values for other, values in columns.items() if other != name}
