"""Names and views of OpenI's images: one image is called differently in each place where it can be had.

::

    CXR1_1_IM-0001-3001        in the XML reports, and CXR1_1_IM-0001-3001.png from Open-i
    CXR1_IM-0001-3001          in TorchXRayVision's table of the DICOM headers
    1_IM-0001-3001.dcm.png     from Kaggle
    1_IM-0001-3001.dcm         as DICOM from Open-i
"""

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl

from manifests.errors import ConfigError, ManifestError
from manifests.listing import Listing
from manifests.release import Release
from manifests.rows import read_rows

IMAGE_SUFFIXES = (".png", ".dcm")

NAME = re.compile(r"(?:CXR)?([0-9]+)(?:_\1)?_(IM-[A-Za-z0-9-]+)(?:\.dcm)?(?:\.png)?", re.IGNORECASE)

HEADER_TABLES = ("nlmcxr_dicom_metadata.csv", "nlmcxr_dicom_metadata.csv.gz")
"""Fields of the DICOM headers, from the repository of TorchXRayVision."""

HEADER_COLUMNS = (
    "imageid", "View Position", "Patient Orientation", "Patient's Birth Date", "Study Date", "Rows", "Columns",
)  # fmt: skip

VIEWS = {"PA": "PA", "AP": "AP", "LL": "LL", "RL": "RL", "LATERAL": "Lateral", "LARGE LATERAL": "Lateral"}
"""Word in the DICOM field View Position -> view."""

ORIENTATIONS = {"L": "Frontal", "R": "Frontal", "A": "Lateral", "P": "Lateral"}
"""Where the rows of the image point to (DICOM Patient Orientation) -> view, where View Position is blank."""

DICOM_FIELDS = ["ViewPosition", "PatientOrientation", "PatientBirthDate", "StudyDate", "Rows", "Columns"]
MAX_AGE_YEARS = 120


class Header(NamedTuple):
    """What the header of an image tells; None: nothing."""

    view: str | None
    age_years: int | None
    width: int | None
    height: int | None


NO_HEADER = Header(None, None, None, None)


def image_key(name: str) -> str | None:
    """Return what all names of an image have in common, ``1_IM-0001-3001``; None where it is no name of one."""
    match = NAME.fullmatch(name)
    return f"{match[1]}_{match[2].upper()}" if match else None


def files_of_images(listing: Listing, root: Path) -> dict[str, str]:
    """Return the key of an image -> name of its file.

    Raises:
        ManifestError: images that are there under two names, as PNG and as DICOM say.
    """
    names: dict[str, dict[str, str]] = {}
    for folder, files in listing.images.items():
        for file in files:
            key = image_key(file)
            if key is not None:
                names.setdefault(key, {}).setdefault(file, folder)
    twice = [places for places in names.values() if len(places) > 1]
    if twice:
        folders = sorted({folder or "." for places in twice for folder in places.values()})
        raise ManifestError(
            f"{root}: {len(twice):,} images are there in more than one form; choose one with --images SUBDIR "
            f"({' or '.join(folders[:5])})",
            sorted(", ".join(f"{folder}/{name}" for name, folder in sorted(places.items())) for places in twice),
        )
    return {key: next(iter(places)) for key, places in names.items()}


def view_of(position: str, orientation: Iterable[str]) -> str | None:
    """Return the view from DICOM's View Position and Patient Orientation, the former's word first; None: unknown."""
    if position.strip():
        return VIEWS.get(position.strip().upper())
    first = next(iter(orientation), "")
    return ORIENTATIONS.get(first[:1].upper())


def age_of(birth_date: str, study_date: str) -> int | None:
    """Return the completed years between two dates such as 19550820; None where that cannot be an age."""
    if not (re.fullmatch("[0-9]{8}", birth_date) and re.fullmatch("[0-9]{8}", study_date)):
        return None
    years = (int(study_date) - int(birth_date)) // 10_000
    return years if 0 <= years <= MAX_AGE_YEARS else None


def read_header_table(release: Release) -> dict[str, Header] | None:
    """Return key -> header of TorchXRayVision's table; None where it is not there.

    Raises:
        ManifestError: the table is wrong; all problems are reported together.
    """
    file = release.find(HEADER_TABLES)
    if file is None:
        return None
    rows = read_rows(release.read_text(file), HEADER_COLUMNS, path=str(release.root / file), others="pass over")
    rows.refuse_blank("imageid")
    rows.refuse_repeats("imageid")
    height, width = rows.whole_number("Rows", at_least=1), rows.whole_number("Columns", at_least=1)
    orientation = rows.parse("Patient Orientation", _parse_orientation, pl.String)
    rows.raise_problems()
    columns = ("imageid", "View Position", "Patient's Birth Date", "Study Date")
    texts = [rows.frame[name].fill_null("") for name in columns]
    headers: dict[str, Header] = {}
    for name, position, born, studied, first, w, h in zip(*texts, orientation, width, height, strict=True):
        key = image_key(name)
        if key is not None:
            headers[key] = Header(view_of(position, (first or "",)), age_of(born, studied), w, h)
    return headers


def read_dicom_headers(release: Release, files: Mapping[str, str]) -> dict[str, Header]:
    """Return key -> header of those of `files` (key -> name) that are DICOM; one that cannot be read tells nothing.

    Raises:
        ConfigError: pydicom is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise ConfigError(
            "the views of DICOM images need pydicom: install the extra `dicom` (pip install 'cxr-nvum[dicom]'), "
            "or give --option views=none"
        ) from error
    folders = {name: folder for folder, names in release.listing.images.items() for name in names}
    headers: dict[str, Header] = {}
    num_unreadable = 0
    for key, name in sorted(files.items()):
        if not name.lower().endswith(".dcm"):
            continue
        try:
            fields = pydicom.dcmread(
                release.root / folders[name] / name, stop_before_pixels=True, specific_tags=list(DICOM_FIELDS)
            )
            headers[key] = Header(
                view_of(str(fields.get("ViewPosition") or ""), fields.get("PatientOrientation") or ()),
                age_of(str(fields.get("PatientBirthDate") or ""), str(fields.get("StudyDate") or "")),
                int(fields.get("Columns") or 0) or None,
                int(fields.get("Rows") or 0) or None,
            )
        except (pydicom.errors.InvalidDicomError, OSError, EOFError, ValueError, TypeError, AttributeError, KeyError):
            num_unreadable += 1
    if num_unreadable:
        release.notes.append(f"{num_unreadable:,} DICOM headers cannot be read: nothing is known of these images")
    return headers


def _parse_orientation(text: str) -> str:
    """Return the first word of an orientation such as ``['L', 'F']``."""
    try:
        words = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"{text!r}: expected a list such as ['L', 'F']") from error
    return str(words[0]) if isinstance(words, list) and words else ""
