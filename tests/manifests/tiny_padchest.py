"""Releases of PadChest with few rows, in the form of the file of 160,868."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from manifests.build import BuildConfig, BuildReport, build_manifest
from manifests.datasets.padchest import MANUAL
from manifests.table import ManifestTable, read_manifest

LABELS = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"

HEADER = (
    "", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
    "ViewPosition_DICOM", "Projection", "MethodProjection", "Pediatric", "Modality_DICOM", "Manufacturer_DICOM",
    "PhotometricInterpretation_DICOM", "PixelRepresentation_DICOM", "PixelAspectRatio_DICOM",
    "SpatialResolution_DICOM", "BitsStored_DICOM", "WindowCenter_DICOM", "WindowWidth_DICOM", "Rows_DICOM",
    "Columns_DICOM", "XRayTubeCurrent_DICOM", "Exposure_DICOM", "ExposureInuAs_DICOM", "ExposureTime",
    "RelativeXRayExposure_DICOM", "ReportID", "Report", "MethodLabel", "Labels", "Localizations",
    "LabelsLocalizationsBySentence", "labelCUIS", "LocalizationsCUIS",
)  # fmt: skip
"""As in the release; its first column, a row number, has no name."""


def row(name: str, labels: str = "['normal']", **cells: str) -> dict[str, str]:
    """One row: by default of a patient of its own, PA, checked by a person, labelled by a physician."""
    usual = {
        "ImageID": f"{name}.png",
        "ImageDir": "0",
        "StudyDate_DICOM": "20140915",
        "StudyID": f"study-{name}",
        "PatientID": f"8398604886942923316379882356814609{name}",
        "PatientBirth": "1938.0",
        "PatientSex_DICOM": "M",
        "ViewPosition_DICOM": "POSTEROANTERIOR",
        "Projection": "PA",
        "MethodProjection": MANUAL,
        "Pediatric": "No",
        "Rows_DICOM": "2048",
        "Columns_DICOM": "2500.0",
        "Report": 'sin hallazgo , "patolog" .',
        "MethodLabel": "Physician",
        "Labels": labels,
        "Localizations": "[' loc right', ' loc basal']",
    }
    return usual | cells


ROWS = (
    row("10"),
    row("11", "['normal', ' cardiomegaly ']", PatientSex_DICOM="F"),
    row("12", "[' pleural effusion', 'COPD signs', 'laminar atelectasis', '']", Projection="L", ImageDir="54"),
    row("13", "['consolidation']", MethodLabel="RNN_model"),
    row("14", "['sternotomy', 'unchanged']", Projection="AP"),
)


def text_of(rows: Iterable[dict[str, str]], header: Sequence[str] = HEADER) -> str:
    """The file as the release's, row numbers in front."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    for number, cells in enumerate(rows):
        writer.writerow([str(number) if name == "" else cells.get(name, "") for name in header])
    return file.getvalue()


def write_release(root: Path, rows: Sequence[dict[str, str]] = ROWS, *, images: bool = True) -> Path:
    """Write the label file, and empty images in the folders that it names."""
    root.mkdir(parents=True, exist_ok=True)
    (root / LABELS).write_text(text_of(rows), encoding="utf-8")
    for cells in rows if images else ():
        folder = root / cells["ImageDir"]
        folder.mkdir(exist_ok=True)
        (folder / cells["ImageID"]).touch()
    return root


def build(root: Path, **options: Any) -> BuildReport:
    """Build the manifest of `root` beside it."""
    out = root.parent / "manifest" / "padchest.parquet"
    return build_manifest(BuildConfig(dataset="padchest", root=root, out=out, **options))


def built(root: Path, **options: Any) -> ManifestTable:
    """Build the manifest of `root` and read it."""
    return read_manifest(build(root, **options).out)
