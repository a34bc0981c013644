"""Releases of OpenI with few reports, in the form of the XML archive, of the unpacked files, and of Kaggle's CSVs."""

import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from manifests.build import BuildConfig, BuildReport, build_manifest
from manifests.table import ManifestTable, read_manifest

HEADER = "imageid,Rows,Columns,View Position,Patient Orientation,Patient's Birth Date,Study Date,,Trim\n"


def xml(
    uid: int | str,
    images: Sequence[str] = (),
    *,
    major: Sequence[str] = ("normal",),
    automatic: Sequence[str] = (),
    before: str = "",
) -> bytes:
    """One report, with the blank space and the parts of the release's."""
    terms = "".join(f"\n   <major>{escape(term)}</major>\n" for term in major)
    terms += "".join(f"<automatic>{escape(term)}</automatic>\n" for term in automatic)
    parents = "".join(f'<parentImage id="{name}"><figureId>F1</figureId></parentImage>' for name in images)
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n{before}<eCitation>\n   <meta type="rr"/>\n   <uId id="CXR{uid}"/>\n'
        f'<pmcId id="1"/><Abstract><AbstractText Label="FINDINGS">No &lt;effusion&gt;.</AbstractText></Abstract>\n'
        f"<MeSH>{terms}</MeSH>{parents}</eCitation>"
    ).encode()


REPORTS: Mapping[str, bytes] = {
    "1.xml": xml(1, ["CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"]),
    "2.xml": xml(
        2,
        ["CXR2_IM-0652-1001", "CXR2_IM-0652-2001"],
        major=["Cardiomegaly/borderline", "Pulmonary Artery/enlarged"],
        automatic=["cardiomegaly"],
    ),
    "10.xml": xml(10, ["CXR10_IM-0002-1001"], major=["Calcified Granuloma/lung"], automatic=["Calcified Granuloma"]),
    "16.xml": xml(16, [], major=["No Indexing"]),
    "20.xml": xml(20, ["CXR20_IM-0653-1001-0001"], major=["No Indexing"]),
    "33.xml": xml(33, ["CXR33_IM-1594-1001"], major=["Pericardial Effusion"], automatic=["pericardial effusion"]),
}
"""In the order of their numbers."""

IMAGES = (
    "CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001", "CXR2_IM-0652-1001", "CXR2_IM-0652-2001", "CXR10_IM-0002-1001",
    "CXR20_IM-0653-1001-0001", "CXR33_IM-1594-1001",
)  # fmt: skip


def archive(
    members: Mapping[str, bytes] | Iterable[tuple[tarfile.TarInfo, bytes]] = REPORTS, *, mode: str = "w:gz"
) -> bytes:
    """A tar archive, its members in the order of their names as in the release."""
    if isinstance(members, Mapping):
        members = [(member(f"ecgen-radiology/{name}"), content) for name, content in sorted(members.items())]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:  # type: ignore[call-overload] # mode
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """A member of an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def write_archive(root: Path, content: bytes | None = None, *, name: str = "NLMCXR_reports.tgz") -> Path:
    """Write the archive of the reports."""
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(archive() if content is None else content)
    return root


def write_folder(root: Path, reports: Mapping[str, bytes] = REPORTS, *, folder: str = "ecgen-radiology") -> Path:
    """Write the reports unpacked."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, content in reports.items():
        (root / folder / name).write_bytes(content)
    return root


def write_kaggle(root: Path) -> Path:
    """Write Kaggle's two CSVs: quotation marks, commas and line ends in texts."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "indiana_reports.csv").write_text(
        "uid,MeSH,Problems,image,indication,comparison,findings,impression\n"
        '1,normal,normal,Xray Chest PA and Lateral,Positive TB test,None.,"The heart, size\nis ""normal"".",Normal.\n'
        "2,Cardiomegaly/borderline;Pulmonary Artery/enlarged,Cardiomegaly;Pulmonary Artery,,,,,\n"
        '10,"Calcified Granuloma/lung;Catheters, Indwelling/right",x,,,,,\n'
        "16,No Indexing,No Indexing,,,,,\n"
        "20,No Indexing,No Indexing,,,,,\n"
        "33,Pericardial Effusion,Pericardial Effusion,,,,,\n"
    )
    write_projections(root)
    return root


def write_projections(root: Path) -> None:
    """Write Kaggle's list of images."""
    rows = [
        "1,1_IM-0001-4001.dcm.png,Lateral",
        "1,1_IM-0001-3001.dcm.png,Frontal",
        "2,2_IM-0652-1001.dcm.png,Frontal",
        "2,2_IM-0652-2001.dcm.png,Lateral",
        "10,10_IM-0002-1001.dcm.png,Frontal",
        "20,20_IM-0653-1001-0001.dcm.png,Frontal",
        "33,33_IM-1594-1001.dcm.png,Frontal",
    ]
    (root / "indiana_projections.csv").write_text("\n".join(["uid,filename,projection", *rows]) + "\n")


def write_header_table(root: Path) -> None:
    """Write TorchXRayVision's table of DICOM headers; as there, report 1 is named once and an image is missing."""
    rows = [
        "CXR1_IM-0001-3001,2828,2320,PA,\"['L', 'F']\",19550820,20110328,,",
        "CXR1_IM-0001-4001,2828,2320,,\"['A', 'F']\",19550820,20110328,,",
        "CXR2_IM-0652-1001,2048,2500,,\"['R', 'F']\",,20110328,,",
        "CXR2_IM-0652-2001,2048,2500,LARGE LATERAL,,20120101,20110328,,",
        "CXR10_IM-0002-1001,2048,2500,,,19550329,20110328,,",
        "CXR33_IM-1594-1001,2048,2500,AP,\"['L', 'F']\",19550328,20110328,,",
    ]
    (root / "nlmcxr_dicom_metadata.csv").write_text(HEADER + "\n".join(rows) + "\n")


def touch(folder: Path, names: Iterable[str]) -> None:
    """Write empty image files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def build(root: Path, **options: Any) -> BuildReport:
    """Build the manifest of `root` beside it; images may be missing unless said otherwise."""
    options = {"allow_missing_images": True, **options}
    out = root.parent / "manifest" / "openi.parquet"
    return build_manifest(BuildConfig(dataset="openi", root=root, out=out, **options))


def built(root: Path, **options: Any) -> ManifestTable:
    """Build the manifest of `root` and read it."""
    return read_manifest(build(root, **options).out)
