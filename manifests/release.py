"""A release on disk: which label files are there, and their text, with a checksum of what was read."""

import gzip
import hashlib
import zlib
from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from manifests.errors import ManifestError
from manifests.listing import Listing

GZIP_MAGIC = b"\x1f\x8b"


class SourceFile(NamedTuple):
    """A file that a manifest was made from."""

    file: str
    """Path relative to the release's root."""

    sha256: str
    """Of the file as it lies on disk (compressed, if it is)."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """The folder of a release, its listing, and what was read from it so far."""

    root: Path
    listing: Listing
    notes: list[str] = field(default_factory=list)
    """What a person should know about the choices made: one sentence each."""

    options: Mapping[str, str] = field(default_factory=dict)
    """Value of each of the dataset's own options, defaults included."""

    _checksums: list[tuple[str, Future[str]]] = field(default_factory=list)
    """File -> its SHA-256, which is computed while the file is parsed."""

    _hashing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    @property
    def sources(self) -> list[SourceFile]:
        """Return the files read, in the order of reading."""
        return [SourceFile(file, checksum.result()) for file, checksum in self._checksums]

    def note_source(self, file: str, content: bytes) -> None:
        """Note the checksum of `content` as that of `file`, a path relative to the root."""
        self._checksums.append((file, self._hashing.submit(lambda: hashlib.sha256(content).hexdigest())))

    def option(self, name: str) -> str:
        """Return the value of one of the dataset's own options."""
        return self.options[name]

    def choices(self, name: str) -> tuple[str, ...]:
        """Return the values of an option that may have several."""
        return tuple(self.options[name].split(","))

    def find(self, names: Sequence[str], *, beside: str | None = None) -> str | None:
        """Return the path of the first of `names` that is there, in the root or one folder below it; None without one.

        `beside` names the file whose folder is looked into first.

        Raises:
            ManifestError: two folders are equally good.
        """
        for name in names:
            ranked: dict[int, list[str]] = {}
            for folder in self.listing.documents.get(name, ()):
                depth = folder.count("/") + 1 if folder else 0
                if depth <= 1:
                    near = beside is not None and folder == beside.rpartition("/")[0]
                    ranked.setdefault(-1 if near else depth, []).append(f"{folder}/{name}" if folder else name)
            if ranked:
                best = sorted(ranked[min(ranked)])
                if len(best) > 1:
                    raise ManifestError(f"{self.root}: {name} is in {len(best)} folders; give one as --root", best)
                return best[0]
        return None

    def require(self, names: Sequence[str]) -> str:
        """Return `find(names)`.

        Raises:
            ManifestError: none of `names` is there; the message says where else one was seen.
        """
        found = self.find(names)
        if found is None:
            seen = [self.root.resolve().parent / name for name in names]
            seen += [self.root / folder / name for name in names for folder in self.listing.documents.get(name, ())]
            near = next((path for path in seen if path.exists()), None)
            hint = f"; there is one in {near.parent}: give that folder as --root" if near else ""
            raise ManifestError(
                f"{self.root}: no label file in this folder or one below it (expected {' or '.join(names)}){hint}"
            )
        return found

    def read_bytes(self, file: str) -> bytes:
        """Return the content of `file` as it lies on disk and note its checksum.

        Raises:
            ManifestError: it cannot be read.
        """
        path = self.root / file
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ManifestError(f"{path}: cannot be read ({error.strerror})") from error
        self.note_source(file, content)
        return content

    def read_text(self, file: str) -> str:
        """Return the text of `file` as `read_utf8` finds it, and note its checksum.

        Raises:
            ManifestError: as `read_utf8`.
        """
        return self.read_utf8(file).decode()

    def read_utf8(self, file: str) -> bytes:
        """Return the text of `file` (UTF-8, plain or gzip by content) as its bytes, and note its checksum.

        A byte order mark is taken away. For large tables: a reader of bytes needs no copy as a string.

        Raises:
            ManifestError: it cannot be read, is empty, is broken gzip, is an HTML page, or is not UTF-8.
        """
        path = self.root / file
        content = self.read_bytes(file)
        # By content: browsers unpack some .gz downloads and leave the name as it was.
        if content.startswith(GZIP_MAGIC):
            try:
                content = gzip.decompress(content)
            except (OSError, EOFError, zlib.error) as error:
                raise ManifestError(f"{path}: broken gzip ({error}); download it again") from error
        content = content.removeprefix(BOM_UTF8)
        if not content or content.isspace():
            raise ManifestError(f"{path}: the file is empty; download it again")
        if content[:1000].lstrip(BOM_UTF8 + b" \t\r\n").startswith(b"<"):
            raise ManifestError(f"{path}: this is an HTML page, not a table (a saved login page?); download it again")
        if not content.isascii():
            try:
                content.decode()
            except UnicodeDecodeError as error:
                line = content.count(b"\n", 0, error.start) + 1
                raise ManifestError(
                    f"{path}: not UTF-8 at line {line:,} (byte {content[error.start]:#04x}); save it as UTF-8 text"
                ) from error
        return content
