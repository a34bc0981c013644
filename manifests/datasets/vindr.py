"""VinDr-CXR: three radiologists an image in training, whose majority counts, and a consensus of five in test.

Layout of the download (https://physionet.org/content/vindr-cxr/)::

    annotations/image_labels_train.csv    image_id, rad_id, 28 labels: three rows an image
    annotations/image_labels_test.csv     image_id, 28 labels: one row an image
    train/<image_id>.dicom, test/<image_id>.dicom

The release does not say which images are of one patient, so that each image is a patient of its own here; age and sex
are in the DICOM headers alone. All images are postero-anterior.
"""

import polars as pl

from manifests.dataset import OFFICIAL, Dataset, Labels
from manifests.findings import NO_FINDING
from manifests.release import Release
from manifests.rows import Rows, is_plain_name, read_rows
from manifests.vocabulary import Term, Vocabulary

LABEL_FILES = {"train": "image_labels_train.csv", "test": "image_labels_test.csv"}
OFFICIAL_SPLITS = {"train": "train_val", "test": "test"}

SUFFIXES = (".dicom", ".dcm", ".png", ".jpg")
"""Endings of image files: the release's own, then people's conversions. The first that is there is taken."""

NUM_READERS = 3
VOTES = "votes"
"""Name of the table beside the manifest: how many readers saw each finding in a training image."""

OTHER_DISEASE = {"train": "Other diseases", "test": "Other disease"}
"""The one column that the two files call by different names."""

VOCABULARY = Vocabulary(
    (
        Term("Aortic enlargement", "Aortic Enlargement"),
        Term("Atelectasis", "Atelectasis"),
        Term("Calcification", "Calcification"),
        Term("Cardiomegaly", "Cardiomegaly"),
        Term("Clavicle fracture", "Clavicle Fracture"),
        Term("Consolidation", "Consolidation"),
        Term("Edema", "Edema"),
        Term("Emphysema", "Emphysema"),
        Term("Enlarged PA", "Enlarged PA"),
        Term("ILD", "ILD"),
        Term("Infiltration", "Infiltration"),
        Term("Lung Opacity", "Lung Opacity"),
        Term("Lung cavity", "Lung Cavity"),
        Term("Lung cyst", "Lung Cyst"),
        Term("Mediastinal shift", "Mediastinal Shift"),
        Term("Nodule/Mass", "Lung Lesion", "one label for both: it says neither nodule nor mass"),
        Term("Pleural effusion", "Effusion", "a pleural effusion is what the other sources call an effusion"),
        Term("Pleural thickening", "Pleural_Thickening"),
        Term("Pneumothorax", "Pneumothorax"),
        Term("Pulmonary fibrosis", "Fibrosis"),
        Term("Rib fracture", "Rib Fracture"),
        Term("Other lesion", "Other Lesion"),
        Term("COPD", "COPD"),
        Term("Lung tumor", "Lung Tumor"),
        Term("Pneumonia", "Pneumonia"),
        Term("Tuberculosis", "Tuberculosis"),
        Term("Other diseases", "Other Disease", "the training file's name of the column"),
        Term("Other disease", "Other Disease", "the test file's name of the column"),
        Term("No finding", NO_FINDING),
    )
)


def read_labels(release: Release) -> Labels:
    """Return the checked label rows of a VinDr-CXR release, one an image.

    Raises:
        ManifestError: no label file is there or one is wrong; row problems of a file are reported together.
    """
    files = {part: file for part, name in LABEL_FILES.items() if (file := release.find((name,))) is not None}
    if not files:
        release.require(tuple(LABEL_FILES.values()))
    absent = [LABEL_FILES[part] for part in LABEL_FILES if part not in files]
    if absent:
        release.notes.append(f"{absent[0]} is not there: its images are left out")
    counts: dict[str, int] = {}
    frames: list[pl.DataFrame] = []
    votes = pl.DataFrame()
    for part, file in files.items():
        rows = read_part(release, part, file)
        if part == "train":
            votes = count_votes(rows.frame)
            counts = count_readers(votes)
            labels = majority(votes)
            votes = votes.select("image_id", "readers", *VOCABULARY.findings)
        else:
            rows.refuse_repeats("image_id")
            labels = rows.frame.select("image_id", *VOCABULARY.findings)
        rows.raise_problems()
        frames.append(labels.with_columns(pl.lit(part).alias("part"), pl.lit(OFFICIAL_SPLITS[part]).alias(OFFICIAL)))
    return Labels(
        frame=describe_images(pl.concat(frames), ending_of(release)),
        has_official_split=True,
        counts=counts,
        side_tables={VOTES: votes},
    )


def read_part(release: Release, part: str, file: str) -> Rows:
    """Return image_id, in the training file reader, and one column a finding of every row, problems noted."""
    words = {word: finding for word, finding in VOCABULARY.finding_of.items() if finding != "Other Disease"}
    words[OTHER_DISEASE[part]] = "Other Disease"
    names = ("image_id", "rad_id") if part == "train" else ("image_id",)
    rows = read_rows(release.read_utf8(file), (*names, *words), path=str(release.root / file), others="pass over")
    rows.refuse_blank(*names)
    rows.refuse(~is_plain_name("image_id"), "image_id {!r}: expected a plain name", "image_id")
    labels = [rows.parse(word, parse_vote, pl.Int8).alias(finding) for word, finding in words.items()]
    if part == "train":
        rows.refuse(pl.struct("image_id", "rad_id").is_first_distinct().not_(), "image_id {}: reader {} again", *names)
    rows.frame = rows.frame.select("line", *names).hstack(labels)
    return rows


def parse_vote(text: str) -> int:
    """Return 1 or 0."""
    if text not in ("0", "1", "0.0", "1.0"):
        raise ValueError(f"{text!r}: expected 0, 1 or blank")
    return int(text[0])


def count_votes(frame: pl.DataFrame) -> pl.DataFrame:
    """Return image_id, readers, and a finding the readers who saw it, and ``of <finding>``, those who answered.

    Images stay in the order of their first row.
    """
    return frame.group_by("image_id", maintain_order=True).agg(
        pl.len().cast(pl.Int32).alias("readers"),
        *(pl.col(name).cast(pl.Int32).sum() for name in VOCABULARY.findings),
        *(pl.col(name).count().cast(pl.Int32).alias(f"of {name}") for name in VOCABULARY.findings),
    )


def majority(votes: pl.DataFrame) -> pl.DataFrame:
    """Return image_id and, a finding: 1 where more than half saw it, -1 where just half, null where nobody answered."""
    labels = (
        pl.when(pl.col(f"of {name}") == 0)
        .then(None)
        .when(2 * pl.col(name) > pl.col(f"of {name}"))
        .then(1)
        .when(2 * pl.col(name) == pl.col(f"of {name}"))
        .then(-1)
        .otherwise(0)
        .cast(pl.Int8)
        .alias(name)
        for name in VOCABULARY.findings
    )
    return votes.select("image_id", *labels)


def count_readers(votes: pl.DataFrame) -> dict[str, int]:
    """Return what a person should know about the readers."""
    seen = pl.any_horizontal(2 * pl.col(name) > pl.col("readers") for name in VOCABULARY.findings)
    split = pl.any_horizontal(pl.col(name).is_between(1, pl.col("readers") - 1) for name in VOCABULARY.findings)
    return {
        "images_without_three_readers": int((votes["readers"] != NUM_READERS).sum()),
        "images_readers_disagree_on": int(votes.select(split.sum()).item()),
        "images_no_majority_names_anything": int(votes.select((~seen).sum()).item()),
    }


def describe_images(labels: pl.DataFrame, ending: str) -> pl.DataFrame:
    """Return `labels` with path, patient and view; `part` goes."""
    return labels.with_columns(
        path=pl.format("{}/{}{}", "part", "image_id", pl.lit(ending)),
        patient_id=pl.format("vindr:{}", "image_id"),
        view=pl.lit("PA"),
    ).drop("part")


def ending_of(release: Release) -> str:
    """Return the first of `SUFFIXES` that an image file has, the release's own where there is none."""
    names = [name.lower() for names in release.listing.images.values() for name in names]
    return next((ending for ending in SUFFIXES if any(name.endswith(ending) for name in names)), SUFFIXES[0])


DATASET = Dataset(
    name="vindr",
    title="VinDr-CXR",
    num_images=18_000,
    num_patients=None,
    label_origin=(
        "Read from the images by radiologists: training by three, whose majority counts (their votes are beside the "
        "manifest), test by consensus of five."
    ),
    citation="Nguyen et al., VinDr-CXR, Scientific Data 2022",
    terms="PhysioNet Credentialed Health Data License: training and a signed agreement; no redistribution.",
    vocabulary=VOCABULARY,
    image_suffixes=SUFFIXES,
    documents=tuple(LABEL_FILES.values()),
    read_labels=read_labels,
    layout=(
        "annotations/image_labels_train.csv, annotations/image_labels_test.csv: labels; or in the root",
        "train/<image_id>.dicom, test/<image_id>.dicom: images, or conversions to .png or .jpg of the same names",
    ),
)
