"""Releases of ChestX-ray14 with few rows and empty image files: enough for everything that never opens an image."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from manifests.build import BuildConfig, BuildReport, build_manifest
from manifests.splits import SplitConfig
from manifests.table import ManifestTable, read_manifest

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
LABELS = "Data_Entry_2017_v2020.csv"


def row(name: str, labels: str = "No Finding", patient: str = "", age: str = "58", rest: str = "M,PA,2500,2048") -> str:
    """One line of the label file; the patient follows from the name as in the release."""
    return f"{name},{labels},0,{patient or int(name.partition('_')[0])},{age},{rest},0.171,0.171"


ROWS = (
    row("00000001_000.png", "Cardiomegaly"),
    row("00000001_001.png", "Cardiomegaly|Emphysema", age="59"),
    row("00000002_000.png", "No Finding", rest="F,AP,1024,1025"),
    row("00000003_000.png", "Consolidation|Mass"),
    row("00000003_001.png", "Pleural_Thickening"),
    row("00000004_000.png", "Hernia"),
)
NAMES = tuple(line.partition(",")[0] for line in ROWS)
TEST_NAMES = ("00000003_000.png", "00000003_001.png")
TRAIN_NAMES = tuple(name for name in NAMES if name not in TEST_NAMES)


def write_labels(root: Path, rows: Iterable[str] = ROWS, *, file: str = LABELS, header: str = HEADER) -> Path:
    """Write a label file."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / file
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def write_lists(root: Path, train_val: Sequence[str] = TRAIN_NAMES, test: Sequence[str] = TEST_NAMES) -> None:
    """Write the official lists; as in the release, their last line has no newline."""
    (root / "train_val_list.txt").write_text("\n".join(train_val))
    (root / "test_list.txt").write_text("\n".join(test))


def touch_images(folder: Path, names: Iterable[str] = NAMES) -> None:
    """Write empty image files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def write_release(root: Path) -> Path:
    """Write label file, lists and image files."""
    write_labels(root)
    write_lists(root)
    touch_images(root / "images")
    return root


def build(
    root: Path, *, out: Path | None = None, seed: int = 0, valid_fraction: float = 0.1, **options: Any
) -> BuildReport:
    """Build the manifest of `root` beside it."""
    out = out or root.parent / "manifest" / "nih.parquet"
    split = SplitConfig(seed=seed, valid_fraction=valid_fraction)
    return build_manifest(BuildConfig(dataset="nih", root=root, out=out, split=split, **options))


def built(root: Path, **options: Any) -> ManifestTable:
    """Build the manifest of `root` and read it."""
    return read_manifest(build(root, **options).out)
