"""What others have added to ChestX-ray14: expert labels, boxes, and which images RSNA's challenge took from it.

Each file is optional and lies beside the label file; what it says goes into a table beside the manifest, because it
concerns few of the images::

    google2019_nih-chest-xray-labels.csv         four findings of 4,376 images: see `manifests.expert`
    BBox_List_2017.csv                           984 boxes of eight findings, drawn by a radiologist
    pneumonia-challenge-dataset-mappings_2018.json   RSNA Pneumonia: 26,684 images that are ChestX-ray14's

Any of the CSV files may still be .gz.
"""

import json
import re

import polars as pl

from manifests import expert
from manifests.errors import ManifestError
from manifests.findings import FINDINGS
from manifests.lines import unix_lines
from manifests.release import Release
from manifests.rows import Rows, is_plain_name, read_rows
from manifests.vocabulary import Term, Vocabulary

EXPERT_LABELS, BOXES, RSNA_IMAGES = "expert-labels", "boxes", "rsna-images"
"""Names of the tables beside the manifest."""

BOX_FILES = ("BBox_List_2017.csv", "BBox_List_2017.csv.gz")
RSNA_FILES = ("pneumonia-challenge-dataset-mappings_2018.json",)
DOCUMENTS = (*expert.FILES, *BOX_FILES, *RSNA_FILES)

BOX_COLUMNS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
"""As a CSV reader sees them: the header has commas inside brackets."""

BOX_VOCABULARY = Vocabulary(
    (
        Term("Atelectasis", "Atelectasis"),
        Term("Cardiomegaly", "Cardiomegaly"),
        Term("Effusion", "Effusion"),
        Term("Infiltrate", "Infiltration", "the label file's word for it is Infiltration"),
        Term("Mass", "Mass"),
        Term("Nodule", "Nodule"),
        Term("Pneumonia", "Pneumonia"),
        Term("Pneumothorax", "Pneumothorax"),
    )
)

EXPERT_VOCABULARY = Vocabulary(
    (
        Term("Fracture", "Fracture"),
        Term("Pneumothorax", "Pneumothorax"),
        Term("Airspace opacity", "Lung Opacity", "the experts' word for any opacity in the lung"),
        Term("Nodule or mass", "Lung Lesion", "one label for both: it says neither nodule nor mass"),
    )
)


def read_extras(release: Release, *, beside: str) -> dict[str, pl.DataFrame]:
    """Return name -> table of every extra file, empty where it is not there; `beside` names the label file.

    Raises:
        ManifestError: a file has rows that cannot be right; all of them, with line numbers.
    """
    readers = {
        EXPERT_LABELS: (expert.FILES, expert.read_expert_labels),
        BOXES: (BOX_FILES, read_boxes),
        RSNA_IMAGES: (RSNA_FILES, read_rsna_images),
    }
    found = {name: (release.find(files, beside=beside), read) for name, (files, read) in readers.items()}
    return {name: pl.DataFrame() if file is None else read(release, file) for name, (file, read) in found.items()}


def labelled_by_experts(rows: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    """Return `rows` with the experts' four findings in place of their own; null where no expert saw the image.

    Args:
        rows: one row an image, with image_id.
        seen: as from `manifests.expert.read_expert_labels`.
    """
    labels = seen.select("image_id", *(pl.col(word).alias(name) for word, name in EXPERT_VOCABULARY.finding_of.items()))
    own = rows.drop(name for name in FINDINGS if name in rows.columns)
    return own.join(labels, on="image_id", how="left", maintain_order="left")


def extra_notes(extras: dict[str, pl.DataFrame], official: pl.DataFrame | None) -> list[str]:
    """Return what a person should know before training or testing with the extras.

    Args:
        extras: as from `read_extras`.
        official: columns image_id and official; None where the release has no official lists here.
    """
    notes = []
    for name, what in ((EXPERT_LABELS, "the experts' val set"), (RSNA_IMAGES, "RSNA Pneumonia")):
        if extras[name].is_empty():
            continue
        if official is None:
            notes.append(
                f"{what} shares images with this release, and without the official lists any of them may be in test"
            )
            continue
        images = extras[name].filter(set="val") if name == EXPERT_LABELS else extras[name]
        where = official.filter(pl.col("image_id").is_in(images["image_id"].implode()))["official"]
        tested = int((where == "test").sum())
        if tested:
            notes.append(f"{tested:,} images of {what} are in this release's test: training on them leaks into it")
        elif len(where):
            notes.append(f"all {len(where):,} images of {what} are outside this release's test")
    return notes


def read_boxes(release: Release, file: str) -> pl.DataFrame:
    """Return columns image_id, finding, x, y, width, height (px of the released 1024 x 1024 image), one row a box.

    Raises:
        ManifestError: rows cannot be right; all of them, with line numbers.
    """
    # The header ends in three empty columns that no row has.
    text = re.sub(r",+$", "", unix_lines(release.read_text(file)), flags=re.MULTILINE)
    rows = read_rows(text, BOX_COLUMNS, path=str(release.root / file))
    frame = check_boxes(rows)
    rows.raise_problems()
    return frame


def check_boxes(rows: Rows) -> pl.DataFrame:
    """Return the columns of `read_boxes`; what is wrong is noted in `rows`."""
    rows.refuse_blank(*BOX_COLUMNS)
    rows.refuse(~is_plain_name("Image Index"), "Image Index {!r}: expected the plain name of an image", "Image Index")
    return pl.DataFrame(
        [
            rows.frame["Image Index"].alias("image_id"),
            rows.parse("Finding Label", parse_box_finding, pl.String).alias("finding"),
            rows.parse("Bbox [x", parse_pixels, pl.Float64).alias("x"),
            rows.parse("y", parse_pixels, pl.Float64).alias("y"),
            rows.parse("w", parse_pixels, pl.Float64).alias("width"),
            rows.parse("h]", parse_pixels, pl.Float64).alias("height"),
        ]
    )


def parse_box_finding(text: str) -> str:
    """Return the finding of a box; ValueError as `Vocabulary.present`."""
    (finding,) = BOX_VOCABULARY.present([text])
    return finding


def parse_pixels(text: str) -> float:
    """Return a position or a length in pixels."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise ValueError(f"{text!r}: expected pixels from 0 up")
    return value


def read_rsna_images(release: Release, file: str) -> pl.DataFrame:
    """Return columns image_id and rsna_id of every image that RSNA's challenge took from this release.

    Raises:
        ManifestError: the file is no list of objects with img_id and subset_img_id.
    """
    path = release.root / file
    try:
        pairs = [(str(entry["img_id"]), str(entry["subset_img_id"])) for entry in json.loads(release.read_text(file))]
    except (ValueError, TypeError, KeyError) as error:
        raise ManifestError(
            f"{path}: expected a JSON list of objects with img_id and subset_img_id ({type(error).__name__}: {error}); "
            "download it again"
        ) from error
    return pl.DataFrame(pairs, schema={"image_id": pl.String, "rsna_id": pl.String}, orient="row")
