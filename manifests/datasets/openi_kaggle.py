"""Kaggle's copy of OpenI: the reports and the projections as two CSVs, in place of the XML files."""

import polars as pl

from manifests.datasets.openi_images import image_key
from manifests.datasets.openi_reports import Report
from manifests.errors import ManifestError
from manifests.lines import LINE
from manifests.release import Release
from manifests.rows import read_rows

REPORTS = "indiana_reports.csv"
PROJECTIONS = "indiana_projections.csv"

NAMED_TWICE = "CXR1_1_IM-"
"""How the release, and it alone, names the images of its first report."""


def read_projections(release: Release) -> pl.DataFrame | None:
    """Return columns uid (``CXR1``), key (as `image_key`) and view (Frontal, Lateral); None where there is no file.

    Raises:
        ManifestError: the file is wrong; all problems are reported together.
    """
    file = release.find((PROJECTIONS,))
    if file is None:
        return None
    columns = ("uid", "filename", "projection")
    rows = read_rows(release.read_text(file), columns, path=str(release.root / file), others="pass over")
    rows.refuse_blank(*columns)
    rows.refuse_repeats("filename")
    number = rows.whole_number("uid", at_least=1)
    keys = rows.parse("filename", _key, pl.String)
    rows.refuse(~pl.col("projection").is_in(["Frontal", "Lateral"]), "projection {!r} is unknown", "projection")
    foreign = keys.str.split("_").list.first() != number.cast(pl.String)
    lines = rows.frame.filter(foreign.fill_null(False))
    rows.problems += [
        (line, f"{name}: not of report {uid}") for line, name, uid in lines.select(LINE, "filename", "uid").iter_rows()
    ]
    rows.raise_problems()
    return pl.DataFrame({"uid": "CXR" + number.cast(pl.String), "key": keys, "view": rows.frame["projection"]})


def read_reports(release: Release, projections: pl.DataFrame | None) -> list[Report] | None:
    """Return the reports of Kaggle's CSVs, by number; None where the file of the reports is not there.

    Raises:
        ManifestError: one file is there without the other, or is wrong.
    """
    file = release.find((REPORTS,))
    if file is None:
        return None
    if projections is None:
        raise ManifestError(f"{release.root}: {file} is there but {PROJECTIONS}, which names the images, is not")
    rows = read_rows(release.read_text(file), ("uid", "MeSH"), path=str(release.root / file), others="pass over")
    rows.refuse_blank("uid")
    rows.refuse_repeats("uid")
    number = rows.whole_number("uid", at_least=1)
    rows.raise_problems()
    images: dict[str, list[str]] = dict(projections.group_by("uid").agg("key").iter_rows())
    reports = [
        Report(
            uid=f"CXR{uid}",
            image_ids=tuple(map(image_id, images.get(f"CXR{uid}", ()))),
            major=tuple(term for part in (terms or "").split(";") if (term := " ".join(part.split()))),
            automatic=None,
        )
        for uid, terms in sorted(zip(number, rows.frame["MeSH"], strict=True))
    ]
    unknown = sorted(images.keys() - {report.uid for report in reports})
    if unknown:
        raise ManifestError(
            f"{release.root}: {len(unknown):,} reports of {PROJECTIONS} are not in {file}; download both again", unknown
        )
    return reports


def image_id(key: str) -> str:
    """Return the name that the release has for an image."""
    name = f"CXR{key}"
    return name.replace("CXR1_IM-", NAMED_TWICE) if name.startswith("CXR1_IM-") else name


def _key(name: str) -> str:
    key = image_key(name)
    if key is None:
        raise ValueError(f"{name!r}: expected one like 1_IM-0001-4001.dcm.png")
    return key
