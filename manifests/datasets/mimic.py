"""MIMIC-CXR-JPG: a row an image in two files, a row a study in the label file, and two labelers to choose from.

Layout of the download (https://physionet.org/content/mimic-cxr-jpg/)::

    mimic-cxr-2.0.0-metadata.csv.gz            dicom_id, subject_id, study_id, ViewPosition, Rows, Columns, ...
    mimic-cxr-2.0.0-split.csv.gz               dicom_id, study_id, subject_id, split: train, validate, test
    mimic-cxr-2.0.0-chexpert.csv.gz            subject_id, study_id, fourteen labels of 1, 0, -1 and blank
    mimic-cxr-2.0.0-negbio.csv.gz              the same columns, by another labeler
    files/p10/p10000032/s50414267/<dicom_id>.jpg

Ages and sexes are not in this release: they need MIMIC-IV.
"""

import polars as pl

from manifests.dataset import OFFICIAL, Dataset, Labels
from manifests.datasets.chexpert import VOCABULARY
from manifests.errors import ConfigError
from manifests.left_out import split_off
from manifests.options import Option
from manifests.release import Release
from manifests.rows import Rows, is_plain_name, one_of, read_in_parts

FILES = {
    name: (f"mimic-cxr-2.0.0-{name}.csv", f"mimic-cxr-2.0.0-{name}.csv.gz")
    for name in ("metadata", "split", "chexpert", "negbio")
}
"""What a file tells -> its names; version 2.1.0 of the release has kept them."""

LABELER = "labeler"
LABELERS = ("chexpert", "negbio")

IMAGE = ("dicom_id", "subject_id", "study_id")
METADATA = (*IMAGE, "ViewPosition", "Rows", "Columns")
SPLIT = (*IMAGE, "split")
STUDY = ("subject_id", "study_id")

OFFICIAL_SPLITS = {"train": "train", "validate": "valid", "test": "test"}
"""The release's word -> ours; its validation is kept, none is carved out of its train."""

WITHOUT_LABELS = "study_without_labels"


def read_labels(release: Release) -> Labels:
    """Return the checked image rows of a MIMIC-CXR-JPG release with the labels of their studies.

    Raises:
        ConfigError: only the labels of the other labeler are there.
        ManifestError: a file is missing or wrong, or two files contradict each other; row problems of a file are
            reported together.
    """
    images = read_metadata(release)
    split = read_split(release)
    studies = read_studies(release)
    images.frame = images.frame.join(split, on="image_id", how="left", maintain_order="left", suffix="_of_split")
    images.frame = images.frame.join(studies, on="study", how="left", maintain_order="left", suffix="_of_labels")
    refuse_contradictions(images)
    images.raise_problems()
    subject = pl.col("subject").cast(pl.String)
    frame = images.frame.select(
        "image_id",
        path=pl.format("files/p{}/p{}/s{}/{}.jpg", subject.str.head(2), subject, "study", "image_id"),
        patient_id="mimic:" + subject,
        study_id=pl.col("study").cast(pl.String),
        view="view",
        width="width",
        height="height",
        has_labels=pl.col("subject_of_labels").is_not_null(),
    )
    frame = frame.hstack(images.frame.select(*VOCABULARY.findings, OFFICIAL))
    kept, excluded = split_off(frame, {WITHOUT_LABELS: ~pl.col("has_labels")})
    return Labels(
        frame=kept.drop("has_labels"),
        has_official_split=True,
        split_rule="the release's own split: train, validate, test",
        counts={"label_studies": len(studies), "split_rows": len(split)},
        excluded=excluded,
    )


def read_metadata(release: Release) -> Rows:
    """Return image_id, subject, study, view, width and height of every image, with the lines they stand on."""
    file = release.require(FILES["metadata"])
    rows = read_in_parts(
        release.read_utf8(file), METADATA, check_metadata, path=str(release.root / file), others="pass over"
    )
    rows.refuse_repeats("image_id")
    rows.raise_problems()
    return rows


def check_metadata(rows: Rows) -> pl.DataFrame:
    """Return the columns of `read_metadata`; what is wrong is noted in `rows`."""
    return check_image(rows).hstack(
        [
            rows.frame["ViewPosition"].alias("view"),
            rows.whole_number("Columns", at_least=1).alias("width"),
            rows.whole_number("Rows", at_least=1).alias("height"),
        ]
    )


def read_split(release: Release) -> pl.DataFrame:
    """Return image_id, subject, study and, in our words, the official split of every image of the split's file."""
    file = release.require(FILES["split"])
    rows = read_in_parts(release.read_utf8(file), SPLIT, check_split, path=str(release.root / file), others="pass over")
    rows.refuse_repeats("image_id")
    rows.raise_problems()
    return rows.frame.drop("line")


def check_split(rows: Rows) -> pl.DataFrame:
    """Return the columns of `read_split`; what is wrong is noted in `rows`."""
    rows.refuse_blank("split")
    rows.parse("split", one_of(*OFFICIAL_SPLITS), pl.String)
    official = rows.frame["split"].replace(OFFICIAL_SPLITS).alias(OFFICIAL)
    return check_image(rows).with_columns(official)


def check_image(rows: Rows) -> pl.DataFrame:
    """Return image_id, subject and study; what is wrong is noted in `rows`."""
    rows.refuse_blank(*IMAGE)
    rows.refuse(~is_plain_name("dicom_id"), "dicom_id {!r}: expected a plain name", "dicom_id")
    return pl.DataFrame(
        [
            rows.frame["dicom_id"].alias("image_id"),
            rows.whole_number("subject_id", at_least=1).alias("subject"),
            rows.whole_number("study_id", at_least=1).alias("study"),
        ]
    )


def read_studies(release: Release) -> pl.DataFrame:
    """Return study, subject and one Int8 column a finding of every study of the chosen labeler's file.

    Raises:
        ConfigError: only the other labeler's file is there.
        ManifestError: neither is, or it has wrong rows.
    """
    chosen = release.option(LABELER)
    (other,) = (name for name in LABELERS if name != chosen)
    if release.find(FILES[chosen]) is None and release.find(FILES[other]) is not None:
        raise ConfigError(
            f"{release.root}: the labels of {chosen} are not there, those of {other} are; "
            f"give --option {LABELER}={other}"
        )
    file = release.require(FILES[chosen])
    rows = read_in_parts(
        release.read_utf8(file),
        (*STUDY, *VOCABULARY.finding_of),
        check_study,
        path=str(release.root / file),
        others="pass over",  # its columns are in another order than CheXpert's
    )
    rows.refuse_repeats("study")
    rows.raise_problems()
    return rows.frame.drop("line")


def check_study(rows: Rows) -> pl.DataFrame:
    """Return the columns of `read_studies`; what is wrong is noted in `rows`."""
    rows.refuse_blank(*STUDY)
    numbers = [rows.whole_number(f"{name}_id", at_least=1).alias(name) for name in ("study", "subject")]
    return pl.DataFrame([*numbers, *rows.labels(VOCABULARY.finding_of)])


def refuse_contradictions(images: Rows) -> None:
    """Note every image that the split's or the label file gives to another patient, or the split's to another study."""
    for file in ("split", "labels"):
        other = f"subject_of_{file}"
        images.refuse(
            pl.col(other) != pl.col("subject"),
            f"dicom_id {{}}: subject {{}} here, {{}} in the file of the {file}",
            "image_id", "subject", other,
        )  # fmt: skip
    images.refuse(
        pl.col("study_of_split") != pl.col("study"),
        "dicom_id {}: study {} here, {} in the file of the split",
        "image_id", "study", "study_of_split",
    )  # fmt: skip


DATASET = Dataset(
    name="mimic",
    title="MIMIC-CXR-JPG",
    num_images=377_110,
    num_patients=65_379,
    label_origin=(
        "Mined from radiology reports, one a study, by the labeler of CheXpert or NegBio; -1 is what the report leaves "
        "open, blank what it does not mention."
    ),
    citation="Johnson et al., MIMIC-CXR-JPG, arXiv 1901.07042; and PhysioNet, Goldberger et al., Circulation 2000",
    terms="PhysioNet Credentialed Health Data License: training and a signed agreement; no redistribution.",
    vocabulary=VOCABULARY,
    image_suffixes=(".jpg",),
    documents=tuple(name for names in FILES.values() for name in names),
    read_labels=read_labels,
    layout=(
        "mimic-cxr-2.0.0-metadata.csv.gz, mimic-cxr-2.0.0-split.csv.gz: images and their official split; or unpacked",
        "mimic-cxr-2.0.0-chexpert.csv.gz, mimic-cxr-2.0.0-negbio.csv.gz: labels a study; the labeler's that is chosen",
        "**/<dicom_id>.jpg: images, as released files/p10/p10000032/s50414267/<dicom_id>.jpg",
    ),
    exclusions={WITHOUT_LABELS: "images of studies that the label file does not have"},
    options={LABELER: Option(default="chexpert", values=LABELERS, help="Whose labels: CheXpert's labeler or NegBio.")},
)
