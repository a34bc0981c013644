"""Releases of CheXpert with few rows, in its exact format, with what is odd in the real one."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from manifests.build import BuildConfig, BuildReport, build_manifest
from manifests.splits import SplitConfig
from manifests.table import ManifestTable, read_manifest

LABELS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip
HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(LABELS)
SMALL, FULL = "CheXpert-v1.0-small", "CheXpert-v1.0"


def row(path: str, *, sex: str = "Female", age: int | str = 68, view: str = "AP", **labels: str) -> str:
    """One line of train.csv or valid.csv below `SMALL`; labels by their name with ``_`` for the blank."""
    side = "Lateral" if "lateral" in path else "Frontal"
    view = "" if side == "Lateral" else view
    values = {name.replace("_", " "): value for name, value in labels.items()}
    assert set(values) <= set(LABELS)
    return ",".join([f"{SMALL}/{path}", sex, str(age), side, view, *(values.get(name, "") for name in LABELS)])


def image(patient: int, study: int = 1, view: int = 1, side: str = "frontal", part: str = "train") -> str:
    """Path of an image below the release's folder."""
    return f"{part}/patient{patient:05d}/study{study}/view{view}_{side}.jpg"


TRAIN = (
    row(image(1), No_Finding="1.0", Pneumothorax="0.0", Support_Devices="1.0"),
    row(image(2, 2), sex="Male", age=87, Lung_Opacity="-1.0", Edema="-1.0", Pneumothorax="-1.0", Fracture="1.0"),
    row(image(2, 1), sex="Male", age=83, view="AP", Enlarged_Cardiomediastinum="0.0"),
    row(image(2, 1, 2, "lateral"), sex="Male", age=83, Cardiomegaly="1.0"),
    row(image(3), sex="Unknown", age=0, view="PA", Cardiomegaly="1.0"),
    row(image(4), view="LL", Pleural_Effusion="1.0"),
    row(image(5), view="RL", Edema="0.0"),
    row(image(6), view="PA", Atelectasis="1.0", Consolidation="-1.0"),
)
"""Train: an image with devices, uncertain labels, one side view, age 0 and sex Unknown, LL and RL called frontal."""

VALID = (
    row(image(64541, part="valid"), age=73, Cardiomegaly="1.0", **dict.fromkeys(("Edema", "Fracture"), "0.0")),
    row(image(64542, part="valid"), sex="Male", age=70, view="PA", No_Finding="1.0"),
)
TEST_HEADER = "Path," + ",".join(sorted(LABELS))
TEST = tuple(
    f"test/patient{patient}/study1/view1_{side}.jpg," + ",".join(str(int(name == present)) for name in sorted(LABELS))
    for patient, side, present in ((64741, "frontal", "Edema"), (64741, "lateral", "Edema"), (64742, "frontal", ""))
)
"""CheXlocalize's: path and labels only, without a decimal point, in another order."""


def write_csv(path: Path, rows: Iterable[str], header: str = HEADER) -> Path:
    """Write a label file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def write_release(
    root: Path, train: Sequence[str] = TRAIN, valid: Sequence[str] = VALID, test: Sequence[str] = ()
) -> Path:
    """Write label files, with test labels where `test` has rows, and empty images, side by side in `root`."""
    write_csv(root / "train.csv", train)
    write_csv(root / "valid.csv", valid)
    if test:
        write_csv(root / "test_labels.csv", test, TEST_HEADER)
    for line in (*train, *valid, *test):
        path = root / line.partition(",")[0].removeprefix(f"{SMALL}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def cells(rows: Iterable[str], header: str = HEADER) -> list[dict[str, str]]:
    """Return the rows as Python's csv module reads them: for oracles."""
    return list(csv.DictReader(io.StringIO("\n".join([header, *rows]))))


def build(root: Path, *, seed: int = 0, valid_fraction: float = 0.1, **options: Any) -> BuildReport:
    """Build the manifest of `root` beside it."""
    out = root.parent / "manifest" / "chexpert.parquet"
    split = SplitConfig(seed=seed, valid_fraction=valid_fraction)
    return build_manifest(BuildConfig(dataset="chexpert", root=root, out=out, split=split, **options))


def built(root: Path, **options: Any) -> ManifestTable:
    """Build the manifest of `root` and read it."""
    return read_manifest(build(root, **options).out)
