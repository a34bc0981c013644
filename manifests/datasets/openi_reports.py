"""OpenI's reports: XML files in a folder or in the archive as downloaded, read without ever unpacking or expanding it.

An archive and an XML file come from elsewhere, so neither is trusted: a document type declaration, the one place where
entities can be declared, is refused, and so are members of an archive that lead out of it, links, and what is too big
to be a report.
"""

import gzip
import hashlib
import io
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from xml.parsers import expat

from manifests.errors import ManifestError
from manifests.release import GZIP_MAGIC, Release

ARCHIVES = ("NLMCXR_reports.tgz", "NLMCXR_reports.tar.gz", "NLMCXR_reports.tar")
"""By preference; the last is what some browsers make of the first."""

REPORT_FILES = tuple(f"{number}.xml" for number in range(1, 4_000))
"""Names of the unpacked reports; 3,955 of them are there."""

MAX_REPORT_BYTES = 2**20
"""The largest report has 9 KiB."""

MAX_ARCHIVE_BYTES = 2**28
"""Of the whole archive without compression; the release's has 23 MiB."""

UID = re.compile(r"CXR[0-9]{1,6}")
IMAGE_ID = re.compile(r"CXR[0-9]+[A-Za-z0-9_-]+")


class Report(NamedTuple):
    """One report, which OpenI takes for one patient, and its images."""

    uid: str
    """``CXR1``."""

    image_ids: tuple[str, ...]
    """``CXR1_1_IM-0001-3001``, in the order of the report."""

    major: tuple[str, ...]
    """MeSH terms chosen by people, most with qualifiers: ``Cardiomegaly/mild``."""

    automatic: tuple[str, ...] | None
    """Terms that a program found in the report; None where the source does not have them."""


class _Collector:
    """Gathers what a report tells while expat reads it."""

    def __init__(self) -> None:
        self.uids: list[str] = []
        self.image_ids: list[str] = []
        self.terms: dict[str, list[str]] = {"major": [], "automatic": []}
        self.text: list[str] | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name in self.terms:
            self.text = []
        elif name == "parentImage":
            self.image_ids.append(attributes.get("id", ""))
        elif name == "uId":
            self.uids.append(attributes.get("id", ""))

    def characters(self, text: str) -> None:
        if self.text is not None:
            self.text.append(text)

    def end(self, name: str) -> None:
        if name in self.terms and self.text is not None:
            term = " ".join("".join(self.text).split())
            if term and term not in self.terms[name]:
                self.terms[name].append(term)
            self.text = None


def parse_report(content: bytes) -> Report:
    """Return what an XML report tells.

    Raises:
        ValueError: it is not well-formed, declares a document type, or is no report; the message says which.
    """
    collector = _Collector()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = collector.start
    parser.EndElementHandler = collector.end
    parser.CharacterDataHandler = collector.characters
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise ValueError(f"not well-formed XML ({error})") from error
    if len(collector.uids) != 1 or not UID.fullmatch(collector.uids[0]):
        raise ValueError(f"expected one uId such as CXR1, found {', '.join(map(repr, collector.uids)) or 'none'}")
    unusable = [image_id for image_id in collector.image_ids if not IMAGE_ID.fullmatch(image_id)]
    if unusable:
        raise ValueError(f"parentImage {unusable[0]!r}: expected an id such as CXR1_1_IM-0001-3001")
    return Report(
        uid=collector.uids[0],
        image_ids=tuple(collector.image_ids),
        major=tuple(collector.terms["major"]),
        automatic=tuple(collector.terms["automatic"]),
    )


def read_reports(release: Release) -> list[Report] | None:
    """Return the reports of the archive, else those of the unpacked files, by number; None where there are neither.

    Raises:
        ManifestError: the archive or a report cannot be used; all problems of reports are reported together.
    """
    archive = release.find(ARCHIVES)
    folders = release.listing.documents
    files = [name for name in REPORT_FILES if name in folders]
    if archive is not None:
        if files:
            release.notes.append(f"{archive} was read; {len(files):,} unpacked reports were not")
        return _parse_all(archive_members(release.read_bytes(archive), f"{release.root / archive}"), f"{archive}")
    if not files:
        return None
    twice = [f"{name}: {', '.join(sorted(folders[name]))}" for name in files if len(folders[name]) > 1]
    if twice:
        raise ManifestError(f"{release.root}: {len(twice):,} reports are in two folders; give one as --root", twice)
    return _parse_all(_read_files(release, files), f"{release.root}")


def archive_members(content: bytes, path: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every XML file in a tar archive, plain or gzip by content; nothing is unpacked to disk.

    Raises:
        ManifestError: it is no archive, is cut short, or has a member that no release would have.
    """
    try:
        if content.startswith(GZIP_MAGIC):
            with gzip.open(io.BytesIO(content)) as stream:
                content = stream.read(MAX_ARCHIVE_BYTES + 1)
        if len(content) > MAX_ARCHIVE_BYTES:
            raise ManifestError(f"{path}: over {MAX_ARCHIVE_BYTES:,} bytes, too many for the reports")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                reason = _why_refused(member)
                if reason is not None:
                    raise ManifestError(f"{path}: member {member.name!r}: {reason}; download the archive again")
                file = archive.extractfile(member) if is_report_name(member.name) else None
                if file is not None:
                    yield member.name, file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ManifestError(f"{path}: no tar archive, or cut short ({error}); download it again") from error


def is_report_name(path: str) -> bool:
    """Tell whether a path in an archive is a report's; macOS leaves a ``._1.xml`` beside every ``1.xml``."""
    name = path.rpartition("/")[2]
    return name.endswith(".xml") and not name.startswith(".")


def _why_refused(member: tarfile.TarInfo) -> str | None:
    """Return why a member of an archive is not to be trusted."""
    parts = re.split(r"[/\\]", member.name)
    if parts[0] == "" or ":" in parts[0]:
        return "an absolute path"
    if ".." in parts:
        return "a path that leads out of the archive"
    if not (member.isfile() or member.isdir()):
        return "a link or a device, not a file"
    return f"{member.size:,} bytes, too many for a report" if member.size > MAX_REPORT_BYTES else None


def _read_files(release: Release, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of unpacked reports; they are noted as one source, with the hash of ``sha256sum *.xml``.

    Each folder is one: its checksum is that of the lines ``<sha256>  <name>``, in the order of the numbers.
    """
    lines: dict[str, list[str]] = {}
    for name in names:
        folder = release.listing.documents[name][0]
        file = f"{folder}/{name}" if folder else name
        path = release.root / file
        try:
            with path.open("rb") as stream:
                content = stream.read(MAX_REPORT_BYTES + 1)
        except OSError as error:
            raise ManifestError(f"{path}: cannot be read ({error.strerror})") from error
        if len(content) > MAX_REPORT_BYTES:
            raise ManifestError(f"{path}: over {MAX_REPORT_BYTES:,} bytes, too many for a report; download it again")
        lines.setdefault(folder, []).append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
        yield file, content
    for folder, sums in lines.items():
        release.note_source(f"{folder}/*.xml" if folder else "*.xml", "".join(sums).encode())


def _parse_all(files: Iterable[tuple[str, bytes]], where: str) -> list[Report]:
    """Return the reports of `files` (name, content) in the order of their numbers."""
    reports: dict[str, Report] = {}
    images: dict[str, str] = {}
    problems: list[str] = []
    for name, content in files:
        try:
            report = parse_report(content)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        if report.uid in reports:
            problems.append(f"{name}: a second report {report.uid}")
        for image_id in report.image_ids:
            if images.setdefault(image_id, name) != name or report.image_ids.count(image_id) > 1:
                problems.append(f"{name}: image {image_id} again (first in {images[image_id]})")
        reports[report.uid] = report
    if problems:
        raise ManifestError(f"{where}: {len(problems):,} problems of reports", problems)
    if not reports:
        raise ManifestError(f"{where}: no report (.xml) in it; download it again")
    return sorted(reports.values(), key=lambda report: int(report.uid.removeprefix("CXR")))


def _refuse_doctype(name: str, system_id: str | None, public_id: str | None, has_subset: bool) -> None:
    raise ValueError("a document type declaration (DOCTYPE), which no report has and entities need: refused")
