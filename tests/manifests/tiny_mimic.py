"""Releases of MIMIC-CXR-JPG with few rows, in the exact form of its four files."""

import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from manifests.build import BuildConfig, BuildReport, build_manifest
from manifests.table import ManifestTable, read_manifest

METADATA_HEADER = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
    "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning"
)
SPLIT_HEADER = "dicom_id,study_id,subject_id,split"
LABEL_HEADER = (
    "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,"
    "Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
)

# dicom_id, subject_id, study_id, view, split
IMAGES = (
    ("02aa804e-bde0afdd-112c0b34-7bc16630-4e384014", 10000032, 50414267, "PA", "train"),
    ("174413ec-4ec4c1f7-34ea26b7-c5f994f8-79ef1962", 10000032, 50414267, "LATERAL", "train"),
    ("2a2277a9-b0ded155-c0de8eb9-c124d10e-82c5caab", 10000032, 53189527, "AP", "train"),
    ("68b5c4b1-227d0485-9cc38c3f-7b84ab51-4b472714", 10000764, 57375967, "", "validate"),
    ("096052b7-d256dc40-453a102b-fa7d01c6-1b22c6b4", 10000898, 50771383, "AP", "test"),
)
NAMES = tuple(f"{image[0]}.jpg" for image in IMAGES)

# subject_id, study_id, the fourteen labels in the order of the header
STUDIES = (
    "10000032,50414267,,,,,,,,,1.0,,,,,",
    "10000032,53189527,-1.0,0.0,,,,,,1.0,,1.0,,,,1.0",
    "10000764,57375967,,,1.0,,,,,,,,,-1.0,,",
    "10000898,50771383,,,,,,,,,1.0,0.0,,,0.0,",
)


def metadata_row(image: tuple[str, int, int, str, str]) -> str:
    """One line of the metadata."""
    dicom, subject, study, view, _ = image
    return (
        f"{dicom},{subject},{study},CHEST (PA AND LAT),{view},3056,2544,21800506,213014.531,CHEST (PA AND LAT),,Erect"
    )


def split_row(image: tuple[str, int, int, str, str]) -> str:
    """One line of the official split."""
    dicom, subject, study, _, split = image
    return f"{dicom},{study},{subject},{split}"


def write_file(root: Path, name: str, header: str, rows: Iterable[str], *, packed: bool = True) -> Path:
    """Write one of the four files, gzip as released."""
    root.mkdir(parents=True, exist_ok=True)
    content = ("\n".join([header, *rows]) + "\n").encode()
    path = root / (f"mimic-cxr-2.0.0-{name}.csv" + (".gz" if packed else ""))
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def write_release(
    root: Path,
    images: Sequence[tuple[str, int, int, str, str]] = IMAGES,
    studies: Iterable[str] = STUDIES,
    *,
    labeler: str = "chexpert",
    packed: bool = True,
) -> Path:
    """Write metadata, split and labels, and an empty file for every image."""
    write_file(root, "metadata", METADATA_HEADER, map(metadata_row, images), packed=packed)
    write_file(root, "split", SPLIT_HEADER, map(split_row, images), packed=packed)
    write_file(root, labeler, LABEL_HEADER, studies, packed=packed)
    for dicom, subject, study, *_ in images:
        folder = root / "files" / f"p{str(subject)[:2]}" / f"p{subject}" / f"s{study}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{dicom}.jpg").touch()
    return root


def build(root: Path, **options: Any) -> BuildReport:
    """Build the manifest of `root` beside it."""
    out = root.parent / "manifest" / "mimic.parquet"
    return build_manifest(BuildConfig(dataset="mimic", root=root, out=out, **options))


def built(root: Path, **options: Any) -> ManifestTable:
    """Build the manifest of `root` and read it."""
    return read_manifest(build(root, **options).out)
