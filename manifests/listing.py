"""What lies below a release's root, from one pass over its folders.

A folder is listed once with `os.scandir` and a file is never asked for its status: over a network a status a file costs
minutes for 112,120 of them.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from manifests.errors import ConfigError, ManifestError


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Files of a release; folders are relative to its root, with ``/``, and the root itself is ``""``."""

    images: dict[str, list[str]] = field(default_factory=dict)
    """Folder -> names of its image files."""

    documents: dict[str, list[str]] = field(default_factory=dict)
    """Name of a label file or list -> folders that hold one."""

    unreadable_names: list[str] = field(default_factory=list)
    """Image files whose path is not UTF-8 (as Python's escapes): a manifest cannot hold it."""

    @property
    def num_images(self) -> int:
        """Number of image files."""
        return sum(map(len, self.images.values()))

    def below(self, subfolder: str) -> "Listing":
        """Return this listing with the images of `subfolder`, a folder below the root, only.

        Raises:
            ConfigError: there is no image below `subfolder`.
        """
        wanted = Path(subfolder).as_posix()
        kept = {
            folder: names
            for folder, names in self.images.items()
            if wanted == "." or folder == wanted or folder.startswith(f"{wanted}/")
        }
        if not kept:
            folders = ", ".join(sorted(self.images)[:5]) or "none"
            raise ConfigError(f"--images {subfolder}: no image below it (folders with images: {folders})")
        return Listing(images=kept, documents=self.documents, unreadable_names=self.unreadable_names)


def list_release(root: Path, *, suffixes: tuple[str, ...], documents: Collection[str]) -> Listing:
    """List the image files (`suffixes`, lower case, with dot) and the `documents` (names) below `root`.

    Names that begin with a dot are passed over: they are what file managers and archives leave behind. A symbolic link
    to a folder is followed, after all real folders, unless its target was listed already or holds the root itself; so
    the walk ends, and a folder that is reached twice counts once, under its real path.

    Raises:
        ManifestError: a folder cannot be read.
    """
    listing = Listing()
    seen = {_identity(folder) for folder in root.resolve().parents}
    real, links = [""], list[str]()
    while real or links:
        if not real:
            links.sort()
            real.append(links.pop(0))
        folder = real.pop()
        try:
            identity = _identity(root / folder)
            if identity in seen:
                continue
            seen.add(identity)
            _list_folder(root, folder, suffixes, documents, listing, real, links)
        except OSError as error:
            raise ManifestError(f"{root / folder}: cannot be listed ({error.strerror})") from error
    return listing


def _list_folder(
    root: Path,
    folder: str,
    suffixes: tuple[str, ...],
    documents: Collection[str],
    listing: Listing,
    real: list[str],
    links: list[str],
) -> None:
    """Add what `folder` holds to `listing`, its folders to `real` and its links to folders to `links`."""
    names: list[str] = []
    with os.scandir(root / folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            # The entry knows whether it is a folder; only a link that does not look like a file needs a status.
            if entry.is_dir(follow_symlinks=False):
                real.append(f"{folder}/{name}" if folder else name)
            elif name.lower().endswith(suffixes):
                names.append(name)
            elif name in documents:
                listing.documents.setdefault(name, []).append(folder)
            elif entry.is_symlink() and _leads_to_folder(entry):
                links.append(f"{folder}/{name}" if folder else name)
    readable = [name for name in names if _is_utf8(name)] if _is_utf8(folder) else []
    if len(readable) < len(names):
        kept = set(readable)
        listing.unreadable_names.extend(ascii(f"{folder}/{name}")[1:-1] for name in names if name not in kept)
    if readable:
        listing.images[folder] = readable


def _leads_to_folder(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_dir()
    except OSError:  # a link that leads back to itself
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)  # noqa: PTH116 - one call a folder, and a test counts it
    return status.st_dev, status.st_ino


def _is_utf8(name: str) -> bool:
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
