"""The complete label files of ChestX-ray14, without its images."""

from pathlib import Path

FILES = ("Data_Entry_2017_v2020.csv.gz", "train_val_list.txt", "test_list.txt")


def link_labels(root: Path, real_data: Path, files: tuple[str, ...] = FILES) -> Path:
    """Link label file and lists (or other `files`) of the real ChestX-ray14 into a new folder; return it."""
    root.mkdir(parents=True)
    for file in files:
        (root / file).symlink_to(real_data / "nih" / file)
    return root
