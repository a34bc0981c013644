"""Expert labels of ChestX-ray14: what radiologists saw in images whose released labels were mined from reports.

Four findings of 4,376 images, each read by three radiologists and adjudicated: Majkowska et al., "Chest radiograph
interpretation with deep learning models", Radiology 2020. The file repeats the release's row of each image and adds
five columns, the last of which is the set: ``test``, images of the official test list, and ``val``, images of the
official train_val list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from manifests.errors import ManifestError
from manifests.listing import Listing
from manifests.release import Release
from manifests.rows import Rows, is_plain_name, one_of, read_rows
from manifests.schema import SPLITS

if TYPE_CHECKING:
    from manifests.table import ManifestTable

FILES = ("google2019_nih-chest-xray-labels.csv", "google2019_nih-chest-xray-labels.csv.gz")
"""Names of the file, in TorchXRayVision's copy."""

RELEASED: dict[str, tuple[str, ...]] = {
    "Fracture": ("Fracture",),
    "Pneumothorax": ("Pneumothorax",),
    "Airspace opacity": ("Lung Opacity",),
    "Nodule or mass": ("Nodule", "Mass"),
}
"""Column of the experts -> findings of a manifest any of which says the same. ChestX-ray14 labels neither Fracture nor
Lung Opacity: its Infiltration and Consolidation are narrower words, and a rate against them would mislead."""

SETS = ("test", "val")
"""Values of the column `Set Id`."""

COLUMNS = ("Image Index", *RELEASED, "Set Id")

DATASET = "nih"
"""Dataset of the images."""

NOT_THERE = "not in this manifest"
"""Key of the expert's images that the manifest has no row of."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How the released labels of one finding stand to the experts' over the images of one set."""

    images: int
    """Images that both label."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def ppv(self) -> float | None:
        """Share of the released positives that the experts confirm; None without a released positive."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def sensitivity(self) -> float | None:
        """Share of the experts' positives that are released as positive; None without one."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)

    def as_dict(self) -> dict[str, float | int | None]:
        """Return counts and rates under stable names."""
        return {**asdict(self), "ppv": self.ppv, "sensitivity": self.sensitivity}


def read_expert_file(path: Path) -> pl.DataFrame:
    """Return the experts' labels from their file, plain or gzip; columns as in `read_expert_labels`.

    Raises:
        ManifestError: it cannot be read, or has rows that cannot be right.
    """
    return read_expert_labels(Release(root=path.parent, listing=Listing()), path.name)


def read_expert_labels(release: Release, file: str) -> pl.DataFrame:
    """Return columns image_id, set, and 1 or 0 (Int8) under each key of `RELEASED`, one row an image.

    Raises:
        ManifestError: a column is missing, or rows cannot be right; all of them, with line numbers.
    """
    rows = read_rows(release.read_text(file), COLUMNS, path=str(release.root / file), others="pass over")
    frame = check_rows(rows)
    rows.raise_problems()
    return frame


def check_rows(rows: Rows) -> pl.DataFrame:
    """Return the columns of `read_expert_labels`; what is wrong is noted in `rows`."""
    rows.refuse_blank(*COLUMNS)
    rows.refuse_repeats("Image Index")
    rows.refuse(~is_plain_name("Image Index"), "Image Index {!r}: expected the plain name of an image", "Image Index")
    return pl.DataFrame(
        [
            rows.frame["Image Index"].alias("image_id"),
            rows.parse("Set Id", one_of(*SETS), pl.String).alias("set"),
            *(rows.parse(finding, parse_yes, pl.Int8) for finding in RELEASED),
        ]
    )


def parse_yes(text: str) -> int:
    """Return 1 for YES, 0 for NO."""
    if text not in ("YES", "NO"):
        raise ValueError(f"{text!r}: expected YES or NO")
    return int(text == "YES")


def against_expert(table: "ManifestTable", expert: pl.DataFrame) -> dict[str, Any]:
    """Return how the labels of a manifest stand to the experts'; the keys are stable.

    Raises:
        ManifestError: the manifest has none of the images.
    """
    rows = rows_of_both(table, expert)
    if rows["split"].null_count() == len(rows):
        raise ManifestError(f"{table.dataset}: none of the {len(rows):,} images with expert labels is in this manifest")
    where = {name: images_a_split(rows.filter(set=name)) for name in SETS}
    return {
        "images": where,
        "agreement": {
            finding: {
                "released": [name for name in names if name in table.findings],
                "sets": {
                    name: agreement(rows.filter(set=name), finding, names).as_dict()
                    if set(names) <= set(table.findings)
                    else None
                    for name in SETS
                },
            }
            for finding, names in RELEASED.items()
        },
        "warnings": leak_warnings(where),
    }


def rows_of_both(table: "ManifestTable", expert: pl.DataFrame) -> pl.DataFrame:
    """Return the experts' rows with split and findings of the manifest; null where it does not have the image."""
    findings = [name for names in RELEASED.values() for name in names if name in table.findings]
    own = pl.DataFrame(pl.from_arrow(table.table.select(["dataset", "image_id", "split", *findings])))
    own = own.filter(dataset=DATASET).drop("dataset").rename({name: _released(name) for name in findings})
    return expert.join(own, on="image_id", how="left", maintain_order="left")


def agreement(rows: pl.DataFrame, finding: str, names: Sequence[str]) -> Agreement:
    """Return the counts of one finding of the experts against those of the manifest, any of `names`.

    A row that is not labelled, or uncertain, in one of `names` is not compared unless another is present.
    """
    columns = [pl.col(_released(name)) for name in names]
    present = pl.any_horizontal(column == 1 for column in columns).fill_null(False)
    absent = pl.all_horizontal(column == 0 for column in columns).fill_null(False)
    compared = rows.filter(present | absent).select(released=present, expert=pl.col(finding) == 1)
    counts = dict.fromkeys([(True, True), (True, False), (False, True), (False, False)], 0)
    counts |= {(released, expert): count for released, expert, count in compared.group_by(pl.all()).len().iter_rows()}
    return Agreement(
        images=len(compared),
        true_positives=counts[True, True],
        false_positives=counts[True, False],
        false_negatives=counts[False, True],
        true_negatives=counts[False, False],
    )


def images_a_split(rows: pl.DataFrame) -> dict[str, int]:
    """Return split, or `NOT_THERE` -> images."""
    counts = dict(rows.group_by("split").len().iter_rows())
    return {name: counts.get(name, 0) for name in SPLITS} | {NOT_THERE: counts.get(None, 0)}


def leak_warnings(where: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a sentence for every set whose images lie where they make a measurement worthless.

    The rule: an image whose expert label is used to measure must not be in train; one whose expert label is used to
    tune must not be in test. The experts' ``val`` comes out of the official train_val list, so that most of it is in
    train: it cannot measure a model that was trained on the split train.

    Args:
        where: set -> split -> images.
    """
    warnings = []
    for name in SETS:
        if trained := where[name]["train"]:
            warnings.append(
                f"{trained:,} images of the experts' {name} set are in this manifest's train: "
                "a model trained on it has seen them, so do not measure it on them"
            )
    if validated := where["test"]["valid"]:
        warnings.append(
            f"{validated:,} images of the experts' test set are in this manifest's valid: "
            "a checkpoint chosen on it is not measured on them; take the official lists"
        )
    if tested := where["val"]["test"]:
        warnings.append(
            f"{tested:,} images of the experts' val set are in this manifest's test: "
            "what is tuned on them must not be tested there; take the official lists"
        )
    return warnings


def _released(finding: str) -> str:
    """Return the name of a manifest's column beside those of the experts."""
    return f"released {finding}"


def _share(count: int, of: int) -> float | None:
    return count / of if of else None
