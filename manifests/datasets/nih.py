"""NIH ChestX-ray14: one CSV for all labels, findings joined by ``|``, official lists of file names.

Layout of the download (https://nihcc.app.box.com/v/ChestXray-NIHCC)::

    Data_Entry_2017_v2020.csv   or the older Data_Entry_2017.csv; either may still be .gz
    train_val_list.txt          86,524 names
    test_list.txt               25,596 names, of other patients
    images/*.png                or images_001/images/*.png ... images_012/images/*.png

Files that others have added are read where they lie beside the label file: `manifests.datasets.nih_extras`.
"""

import re

import polars as pl

from manifests.dataset import OFFICIAL, Dataset, Labels
from manifests.datasets.nih_extras import (
    DOCUMENTS,
    EXPERT_LABELS,
    EXPERT_VOCABULARY,
    extra_notes,
    labelled_by_experts,
    read_extras,
)
from manifests.errors import ConfigError
from manifests.expert import FILES as EXPERT_FILES
from manifests.left_out import split_off
from manifests.options import Option
from manifests.release import Release
from manifests.rows import Rows, is_plain_name, one_of, read_rows
from manifests.splits import official_by_lists
from manifests.vocabulary import Term, Vocabulary

LABEL_FILES = tuple(
    name + suffix for name in ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv") for suffix in ("", ".gz")
)
"""By preference: the revision of 2020 repaired ages and a few other fields."""

LISTS = {"train_val": "train_val_list.txt", "test": "test_list.txt"}

COLUMNS = (
    "Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position",
    "OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]",
)  # fmt: skip
"""As a CSV reader sees them: the header has commas inside brackets."""

LABELS, RELEASED, EXPERTS = "labels", "released", "experts"
"""The option whose labels to take, and its values."""

NO_EXPERT = "image_no_expert_saw"

MAX_AGE_YEARS = 100
"""The file of 2017 has ages such as 155 and 413; an age over this is read as unknown, and counted."""

AGE = re.compile(r"([0-9]{1,3})([YMWD]?)")
UNITS_PER_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}

VOCABULARY = Vocabulary(
    (
        Term("Atelectasis", "Atelectasis"),
        Term("Cardiomegaly", "Cardiomegaly"),
        Term("Effusion", "Effusion"),
        Term("Infiltration", "Infiltration"),
        Term("Mass", "Mass"),
        Term("Nodule", "Nodule"),
        Term("Pneumonia", "Pneumonia"),
        Term("Pneumothorax", "Pneumothorax"),
        Term("Consolidation", "Consolidation"),
        Term("Edema", "Edema"),
        Term("Emphysema", "Emphysema"),
        Term("Fibrosis", "Fibrosis"),
        Term("Pleural_Thickening", "Pleural_Thickening"),
        Term("Hernia", "Hernia"),
        Term("No Finding", "No Finding"),
    )
)


def read_labels(release: Release) -> Labels:
    """Return the checked label rows of a ChestX-ray14 release.

    Raises:
        ManifestError: the label file or a list is missing or wrong; row problems are reported together.
    """
    file = release.require(LABEL_FILES)
    others = [other for name in LABEL_FILES if (other := release.find((name,))) not in (None, file)]
    if others:
        release.notes.append(f"{file} was read; {' and '.join(map(str, others))} was not")
    rows = read_rows(release.read_utf8(file), COLUMNS, path=str(release.root / file))
    labels = check_rows(rows)
    rows.raise_problems()
    official = official_by_lists(release, labels["image_id"], LISTS, beside=file)
    extras = read_extras(release, beside=file)
    listed = None if official is None else pl.DataFrame([labels["image_id"], official])
    release.notes.extend(extra_notes(extras, listed))
    frame = labels.with_columns(pl.lit(None, pl.String).alias(OFFICIAL) if official is None else official)
    excluded = None
    by_experts = release.option(LABELS) == EXPERTS
    if by_experts:
        seen = extras[EXPERT_LABELS]
        if seen.is_empty():
            raise ConfigError(f"--option {LABELS}={EXPERTS}: {' or '.join(EXPERT_FILES)} is not beside {file}")
        frame, excluded = split_off(frame, {NO_EXPERT: ~pl.col("image_id").is_in(seen["image_id"].implode())})
        frame = labelled_by_experts(frame, seen)
    return Labels(
        frame=frame,
        has_official_split=official is not None,
        counts={"ages_over_100": int(rows.frame["Patient Age"].is_not_null().sum() - labels["age_years"].count())},
        excluded=excluded,
        labelled=EXPERT_VOCABULARY.findings if by_experts else None,
        side_tables=extras,
    )


def check_rows(rows: Rows) -> pl.DataFrame:
    """Return the harmonised columns of `rows`; what is wrong is noted there."""
    rows.refuse_blank("Image Index", "Finding Labels", "Patient ID")
    rows.refuse_repeats("Image Index")
    is_png = pl.col("Image Index").str.to_lowercase().str.ends_with(".png")
    rows.refuse(
        ~(is_plain_name("Image Index") & is_png),
        "Image Index {!r}: expected the plain name of a .png file",
        "Image Index",
    )
    findings = rows.expand("Finding Labels", parse_findings, VOCABULARY.findings)
    patient = rows.whole_number("Patient ID", at_least=1)
    return pl.DataFrame(
        [
            rows.frame["Image Index"].alias("image_id"),
            ("images/" + rows.frame["Image Index"]).alias("path"),
            ("nih:" + patient.cast(pl.String)).alias("patient_id"),
            rows.parse("View Position", one_of("PA", "AP"), pl.String).alias("view"),
            rows.parse("Patient Gender", one_of("F", "M"), pl.String).alias("sex"),
            rows.parse("Patient Age", parse_age_years, pl.Float32).alias("age_years"),
            rows.whole_number("OriginalImage[Width", at_least=1).alias("width"),
            rows.whole_number("Height]", at_least=1).alias("height"),
            *findings,
        ]
    )


def parse_findings(text: str) -> frozenset[str]:
    """Return the findings of a cell such as ``Cardiomegaly|Effusion``; ValueError as `Vocabulary.present`."""
    return VOCABULARY.present(text.split("|"))


def parse_age_years(text: str) -> float | None:
    """Return the years of an age such as ``58``, ``058Y``, ``010M`` or ``005D``; None where it cannot be true."""
    match = AGE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r}: expected years, or a number with Y, M, W or D")
    years = int(match[1]) / UNITS_PER_YEAR[match[2]]
    return years if years <= MAX_AGE_YEARS else None


DATASET = Dataset(
    name="nih",
    title="NIH ChestX-ray14",
    num_images=112_120,
    num_patients=30_805,
    label_origin=(
        "Mined from radiology reports by rules; noisy. Against the experts of Majkowska et al. the released labels "
        "have, on 1,962 test images, PPV 48 % and sensitivity 50 % for Pneumothorax, 57 % and 45 % for Mass or Nodule."
    ),
    citation="Wang et al., ChestX-ray8, CVPR 2017",
    terms="Use is unrestricted; the NIH Clinical Center asks to be named and the paper to be cited.",
    vocabulary=VOCABULARY,
    image_suffixes=(".png",),
    documents=(*LABEL_FILES, *LISTS.values(), *DOCUMENTS),
    read_labels=read_labels,
    exclusions={NO_EXPERT: "images without expert labels, which the option labels=experts leaves out"},
    options={
        LABELS: Option(
            default=RELEASED,
            values=(RELEASED, EXPERTS),
            help="Whose labels: the released ones, or the four findings of the experts, of the images that they saw.",
        )
    },
    layout=(
        "Data_Entry_2017_v2020.csv: labels, or the older Data_Entry_2017.csv; either may still be .gz",
        "train_val_list.txt, test_list.txt: official split; without both, patients are drawn",
        "images/*.png, or images_001/images/*.png ... images_012/images/*.png",
        "google2019_nih-chest-xray-labels.csv, BBox_List_2017.csv (or .gz), "
        "pneumonia-challenge-dataset-mappings_2018.json: optional; expert labels, boxes, RSNA's images as side tables",
    ),
)
