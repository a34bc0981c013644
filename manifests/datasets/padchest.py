"""PadChest, of San Juan Hospital, Alicante: one CSV, labels as the text of Python lists, 16-bit PNG.

Layout of the download (https://bimcv.cipf.es/bimcv-projects/padchest)::

    PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv    or .csv.gz
    0/*.png ... 54/*.png                                    ImageDir/ImageID; found wherever they lie

Some of its images are cut short or unreadable: packing rejects and lists them.
"""

import csv
import io

import polars as pl

from manifests.dataset import OFFICIAL, Dataset, Labels
from manifests.datasets.padchest_terms import VOCABULARY, findings_of, no_finding, parse_list
from manifests.findings import NO_FINDING
from manifests.left_out import split_off
from manifests.options import Option
from manifests.release import Release
from manifests.rows import Rows, is_plain_name, read_in_parts

LABEL_FILES = (
    "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
    "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz",
)

COLUMNS = (
    "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM", "Projection",
    "MethodProjection", "Pediatric", "MethodLabel", "Labels",
)  # fmt: skip

HEADER_CHARACTERS = 10_000
"""The header has some 600."""

SIZES = {"width": "Columns_DICOM", "height": "Rows_DICOM"}
"""Column of the manifest -> column of the release; read where the file has it."""

MANUAL = "Manual review of DICOM fields"
"""MethodProjection of a view that a person checked; the others come from a network."""

MAX_AGE_YEARS = 110
YEAR_OF_THE_PAPER = 2019
MIN_AGE_OF_THE_PAPER = 10

MEANING = {
    "image_again": "rows of an image that an earlier row has",
    "row_without_patient": "rows without PatientID",
    "labels_unreadable": "rows whose Labels are no list of words",
    "row_without_labels": "rows without Labels",
    "labels_tell_nothing": "rows whose Labels tell neither a finding nor that there is none (`unchanged`, ...)",
    "other_labeller": "rows labelled by other than option labeller",
    "other_projection": "rows whose projection is not among option projections",
    "projection_not_checked": "rows whose projection no person checked",
    "pediatric": "pediatric studies",
    "too_young": f"patients not over {MIN_AGE_OF_THE_PAPER} years in {YEAR_OF_THE_PAPER}, or of unknown birth",
    "further_image_of_patient": "rows after the first that stays of their patient",
}
"""Rule -> what it leaves out, in the order in which the rules apply."""


def read_labels(release: Release) -> Labels:
    """Return the rows of a PadChest release that its options keep.

    Raises:
        ManifestError: the label file is missing or wrong; row problems are reported together.
    """
    file = release.require(LABEL_FILES)
    text = release.read_text(file)
    columns = (*COLUMNS, *(name for name in SIZES.values() if name in header_of(text)))
    rows = read_in_parts(text, columns, check_rows, path=str(release.root / file), others="pass over")
    rows.raise_problems()
    table = label_table(rows.frame["Labels"], by=release.option("no-finding"))
    frame = rows.frame.join(table, on="Labels", how="left", maintain_order="left")
    frame, excluded = split_off(frame, rules(release))
    if release.option("images-a-patient") == "one":
        frame, others = split_off(frame, {"further_image_of_patient": pl.int_range(pl.len()).over("patient_id") > 0})
        excluded = pl.concat([excluded, others])
    is_test = release.option("split") == "test"
    return Labels(
        frame=frame.with_columns(pl.lit("test" if is_test else None, pl.String).alias(OFFICIAL)),
        has_official_split=is_test,
        split_rule="all test: option split=test" if is_test else None,
        counts={
            "ages_unknown": int(frame["age_years"].null_count()),
            "sex_unknown": int(frame["sex"].null_count()),
        },
        excluded=excluded,
        unmapped=dict(frame["unmapped"].explode().drop_nulls().value_counts().iter_rows()),
    )


def header_of(text: str) -> list[str]:
    """Return the columns of a CSV, quoted or not."""
    return next(csv.reader(io.StringIO(text[:HEADER_CHARACTERS], newline="")))


def rules(release: Release) -> dict[str, pl.Expr]:
    """Return each rule but the last of `MEANING` and where it holds, as the options ask."""
    asked: dict[str, pl.Expr] = {
        "image_again": ~pl.col("image_id").is_first_distinct(),
        "row_without_patient": pl.col("patient_id").is_null(),
        "labels_unreadable": pl.col("fate") == "labels_unreadable",
        "row_without_labels": pl.col("fate").is_null() | (pl.col("fate") == "row_without_labels"),
        "labels_tell_nothing": pl.col("fate") == "labels_tell_nothing",
        "other_labeller": ~pl.col("MethodLabel").is_in(release.choices("labeller")).fill_null(False),
        "other_projection": ~pl.col("view").is_in(release.choices("projections")).fill_null(False),
        "projection_not_checked": (pl.col("MethodProjection") != MANUAL).fill_null(True),
        "pediatric": pl.col("Pediatric") == "PED",
        "too_young": (YEAR_OF_THE_PAPER - pl.col("birth") <= MIN_AGE_OF_THE_PAPER).fill_null(True),
    }
    optional = {
        "projection_not_checked": release.option("projection-method") == "manual",
        "pediatric": release.option("pediatric") == "left-out",
        "too_young": release.option("age") == "over-10-in-2019",
    }
    return {rule: holds for rule, holds in asked.items() if optional.get(rule, True)}


def check_rows(rows: Rows) -> pl.DataFrame:
    """Return the harmonised columns of `rows`, and those that the rules ask for; what is wrong is noted there."""
    rows.refuse_blank("ImageID")
    is_png = pl.col("ImageID").str.to_lowercase().str.ends_with(".png")
    rows.refuse(~(is_plain_name("ImageID") & is_png), "ImageID {!r}: expected the plain name of a .png file", "ImageID")
    rows.refuse(~is_plain_name("ImageDir"), "ImageDir {!r}: expected the plain name of a folder", "ImageDir")
    birth = rows.parse("PatientBirth", parse_year, pl.Int32)
    studied = rows.parse("StudyDate_DICOM", parse_year, pl.Int32)
    sizes = [
        rows.parse(name, parse_number, pl.Int32).alias(column)
        for column, name in SIZES.items()
        if name in rows.frame.columns
    ]
    age = pl.col("studied") - pl.col("birth")
    return rows.frame.with_columns(birth.alias("birth"), studied.alias("studied"), *sizes).select(
        pl.col("ImageID").alias("image_id"),
        (pl.col("ImageDir").fill_null("") + "/" + pl.col("ImageID")).str.strip_prefix("/").alias("path"),
        ("padchest:" + pl.col("PatientID")).alias("patient_id"),
        pl.col("StudyID").alias("study_id"),
        pl.col("Projection").alias("view"),
        pl.when(pl.col("PatientSex_DICOM").is_in(["F", "M"])).then("PatientSex_DICOM").alias("sex"),
        pl.when(age.is_between(0, MAX_AGE_YEARS)).then(age).cast(pl.Float32).alias("age_years"),
        *(series.name for series in sizes),
        "birth", "MethodProjection", "Pediatric", "MethodLabel", pl.col("Labels").fill_null(""),
    )  # fmt: skip


def label_table(texts: pl.Series, *, by: str) -> pl.DataFrame:
    """Return a row a distinct text: what it says of each finding, and what becomes of its images.

    Columns: Labels, the text; fate, the rule that it falls under, or ``kept``; unmapped, its labels that name no
    finding; one Int8 column a finding.

    Args:
        texts: String [n], cells of the column Labels.
        by: value of the option no-finding.
    """
    names = VOCABULARY.findings
    rows: list[tuple[object, ...]] = []
    columns_of: dict[frozenset[str], tuple[bool, ...]] = {}
    for text in texts.unique().sort():
        items, fate = read_list(text)
        found = findings_of(items)
        is_normal = no_finding(items, found, by=by)
        if is_normal is None:
            fate = fate or "labels_tell_nothing"
        present = found | {NO_FINDING} if is_normal else found
        unmapped = [item for item in items if item not in VOCABULARY.finding_of]
        if present not in columns_of:
            columns_of[present] = tuple(name in present for name in names)
        rows.append((text, fate or "kept", unmapped, *columns_of[present]))
    schema = {
        "Labels": pl.String(),
        "fate": pl.String(),
        "unmapped": pl.List(pl.String),
        **dict.fromkeys(names, pl.Boolean()),
    }
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col(*names).cast(pl.Int8))


def read_list(text: str) -> tuple[tuple[str, ...], str]:
    """Return the items of a cell of Labels, and the rule that a cell without any falls under."""
    try:
        items = parse_list(text)
    except ValueError:
        return (), "row_without_labels" if text.strip().lower() in ("", "nan") else "labels_unreadable"
    return items, "" if items else "row_without_labels"


def parse_number(text: str) -> int | None:
    """Return a number such as ``2500`` or ``2500.0``; None where it is none, as the release has it in places."""
    whole = text.removesuffix(".0")
    return int(whole) if whole.isascii() and whole.isdecimal() and len(whole) < 10 else None


def parse_year(text: str) -> int | None:
    """Return the year of ``20140915``, of ``1938`` or of ``1938.0``; None where there is none."""
    number = parse_number(text)
    year = number // 10_000 if number is not None and number > 9_999 else number
    return year if year is not None and 1800 <= year <= 2100 else None


DATASET = Dataset(
    name="padchest",
    title="PadChest",
    num_images=160_868,
    num_patients=67_625,
    label_origin=(
        "Reports in Spanish: 27 % labelled by physicians, the others by a network trained on those (MethodLabel)."
    ),
    citation="Bustos et al., PadChest: A large chest x-ray image dataset with multi-label annotated reports, 2020",
    terms="BIMCV's research use agreement; registration, no redistribution.",
    vocabulary=VOCABULARY,
    image_suffixes=(".png",),
    documents=LABEL_FILES,
    read_labels=read_labels,
    layout=(
        "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv: labels; may still be .gz",
        "0/*.png ... 54/*.png, or the same images in other folders: 16 bits",
    ),
    exclusions=MEANING,
    options={
        "labeller": Option(
            default="Physician,RNN_model",
            values=("Physician", "RNN_model"),
            many=True,
            help="Whose labels: MethodLabel.",
        ),
        "projections": Option(
            default="PA,AP,AP_horizontal,L,COSTAL",
            values=("PA", "AP", "AP_horizontal", "L", "COSTAL", "EXCLUDE", "UNK"),
            many=True,
            help="Which projections; EXCLUDE is what the release itself advises against.",
        ),
        "projection-method": Option(
            default="any", values=("any", "manual"), help="manual: only projections that a person checked."
        ),
        "images-a-patient": Option(
            default="all", values=("all", "one"), help="one: the first, in the order of the file, that the rest keeps."
        ),
        "age": Option(
            default="any", values=("any", "over-10-in-2019"), help="over-10-in-2019: by year of birth, as NVUM's paper."
        ),
        "pediatric": Option(
            default="kept", values=("kept", "left-out"), help="Whether studies marked pediatric (PED) stay."
        ),
        "no-finding": Option(
            default="normal",
            values=("normal", "paper"),
            help="What No Finding means: the label `normal`; or, as in the paper, none of the findings.",
        ),
        "split": Option(
            default="patients",
            values=("patients", "test"),
            help="By patient into train, valid and test, as the release has no lists; or all test.",
        ),
    },
    presets={
        "paper": {
            "labeller": "Physician",
            "projections": "PA,AP",
            "projection-method": "manual",
            "images-a-patient": "one",
            "age": "over-10-in-2019",
            "no-finding": "paper",
            "split": "test",
        }
    },
)
