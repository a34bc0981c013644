"""CheXpert, small and full release: a CSV a split, fourteen labels of 1, 0, -1 and blank an image.

Layout of the download (https://stanfordmlgroup.github.io/competitions/chexpert); match_parts finds an image wherever
its patient's folder lies, so that the parts of the full release need not be joined::

    CheXpert-v1.0-small/train.csv, valid.csv
    CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg
    test_labels.csv, test/patient64741/study1/view1_frontal.jpg    of CheXlocalize, published later
"""

import polars as pl

from manifests.dataset import OFFICIAL, Dataset, Labels
from manifests.left_out import split_off
from manifests.options import Option
from manifests.release import Release
from manifests.rows import Rows, read_in_parts
from manifests.runs import by_runs, first_of_runs
from manifests.vocabulary import Term, Vocabulary

LABEL_FILES = {"train": ("train.csv",), "valid": ("valid.csv", "val_labels.csv"), "test": ("test_labels.csv",)}
"""Part of the release -> names of its label file, by preference; CheXlocalize's have the path and the labels only."""

PERSON = ("Sex", "Age", "Frontal/Lateral", "AP/PA")

VOCABULARY = Vocabulary(
    (
        Term("No Finding", "No Finding"),
        Term("Enlarged Cardiomediastinum", "Enlarged Cardiomediastinum"),
        Term("Cardiomegaly", "Cardiomegaly"),
        Term("Lung Opacity", "Lung Opacity"),
        Term("Lung Lesion", "Lung Lesion"),
        Term("Edema", "Edema"),
        Term("Consolidation", "Consolidation"),
        Term("Pneumonia", "Pneumonia"),
        Term("Atelectasis", "Atelectasis"),
        Term("Pneumothorax", "Pneumothorax"),
        Term("Pleural Effusion", "Effusion", "a pleural effusion is what the other sources call an effusion"),
        Term("Pleural Other", "Pleural Other"),
        Term("Fracture", "Fracture"),
        Term("Support Devices", "Support Devices"),
    )
)

OFFICIAL_VALID = "official-valid"
LEFT_OUT_RULE = "official_valid_images"
PATIENT = "patient[0-9]+/"
NAME = r"study[0-9]+/view[0-9]+_(?:frontal|lateral)\.jpg"
"""An image's path below the folder of its patient."""

SIDES = ("Frontal", "Lateral")
PROJECTIONS = ("AP", "PA", "LL", "RL")
VIEW = pl.Enum((*SIDES, *PROJECTIONS))
SEX = pl.Enum(("F", "M"))
SEXES = {"Female": "F", "Male": "M", "Unknown": None}
MAX_AGE_YEARS = 120
"""An age over this is no age; the release's highest is 90, and its 0 means unknown."""


def read_labels(release: Release) -> Labels:
    """Return the checked label rows of a CheXpert release: those of train.csv, valid.csv and test_labels.csv.

    Raises:
        ManifestError: no label file is there or one is wrong; row problems of a file are reported together.
    """
    found = {part: release.find(names) for part, names in LABEL_FILES.items()}
    files = {part: file for part, file in found.items() if file is not None}
    if not files:
        release.require([name for names in LABEL_FILES.values() for name in names])
    if "train" not in files:
        release.notes.append("train.csv is not there: nothing to train on")
    frames = {part: read_part(release, part, file) for part, file in files.items()}
    fate = release.option(OFFICIAL_VALID)
    if fate == "auto":
        fate = "left-out" if "test" in files else "test"
    official = {"train": "train_val", "valid": fate, "test": "test"}
    frame = pl.concat(part.with_columns(pl.lit(official[name]).alias(OFFICIAL)) for name, part in frames.items())
    frame, excluded = split_off(frame, {LEFT_OUT_RULE: pl.col(OFFICIAL) == "left-out"})
    if "valid" in files:
        where = "left out" if fate == "left-out" else f"in the split {fate}"
        release.notes.append(f"the {len(frames['valid']):,} images of {files['valid']} are {where} ({OFFICIAL_VALID})")
    return Labels(
        frame=frame.drop("age_is_0", "sex_is_unknown"),
        has_official_split=True,
        counts={
            "ages_0": int(frame["age_is_0"].sum()),
            "sex_unknown": int(frame["sex_is_unknown"].sum()),
            **{f"rows_{name}": len(part) for name, part in frames.items()},
        },
        excluded=excluded,
    )


def read_part(release: Release, part: str, file: str) -> pl.DataFrame:
    """Return the harmonised columns of one label file, and whether an age is 0 and a sex Unknown."""
    folder = file.rpartition("/")[0]
    labels_only = file.rpartition("/")[2] not in ("train.csv", "valid.csv")
    columns = ("Path", *(() if labels_only else PERSON), *VOCABULARY.finding_of)
    rows = read_in_parts(
        release.read_utf8(file),
        columns,
        lambda some: check_rows(some, part),
        path=str(release.root / file),
        others="pass over" if labels_only else "refuse",
        labels=VOCABULARY.finding_of,
    )
    rows.refuse_repeats("image_id")
    rows.raise_problems()
    image_id = pl.col("image_id")
    return rows.frame.with_columns(path=f"{folder}/" + image_id if folder else image_id)


def check_rows(rows: Rows, part: str) -> pl.DataFrame:
    """Return the harmonised columns of `rows`, all but the path; what is wrong is noted there."""
    rows.refuse_blank("Path")
    pieces = path_pieces(rows, part)
    frame = pieces.with_columns(**person(rows, pieces["name"])).select(
        pl.exclude("name", "age"),
        age_years=pl.when(pl.col("age") > 0).then("age").cast(pl.Float32),
        age_is_0=pl.col("age") == 0,
    )
    return frame.hstack(rows.labels(VOCABULARY.finding_of))


def path_pieces(rows: Rows, part: str) -> pl.DataFrame:
    """Return image_id, which begins with `part`, patient_id, study_id and name; other paths are noted in `rows`."""
    paths = rows.frame["Path"]
    # Where the first path is to be cut most others are too: a search in each takes longer than all the rest.
    for like in (paths.head(1), paths):
        pieces = cut_paths(paths, part, like)
        if is_regular(pieces, part):
            break
    else:
        whole = rf"\A(?:[^/]+/)?{part}/{PATIENT}{NAME}\z"
        expected = f"CheXpert-v1.0-small/{part}/patient00001/study1/view1_frontal.jpg"
        rows.refuse(~pl.col("Path").str.contains(whole), f"Path {{!r}}: expected one like {expected}", "Path")
    length = pieces["patient"].str.len_bytes() + pieces["name"].str.find("/", literal=True)
    return pieces.select(
        "image_id",
        patient_id=by_runs(pieces["patient"], lambda patient: "chexpert:" + patient.str.strip_suffix("/")),
        study_id=pl.col("image_id").cast(pl.Binary).bin.slice(len(f"{part}/"), length).cast(pl.String),
        name="name",
    )


def cut_paths(paths: pl.Series, part: str, like: pl.Series) -> pl.DataFrame:
    """Return folder, patient, name, which make up a path, and image_id: cut where `like`, one or all, is to be cut."""
    begin = like.str.find(f"{part}/patient", literal=True)
    patient = begin + len(f"{part}/")
    tail = like.to_frame().select(pl.col("Path").cast(pl.Binary).bin.slice(patient).cast(pl.String)).to_series()
    size = tail.str.find("/", literal=True) + 1
    path = pl.col("Path").cast(pl.Binary).bin  # `find` counts bytes
    pieces = {
        "folder": path.slice(0, patient),
        "patient": path.slice(patient, size),
        "name": path.slice(patient + size),
        "image_id": path.slice(begin),
    }
    return paths.to_frame().select(piece.cast(pl.String, strict=False).alias(name) for name, piece in pieces.items())


def is_regular(pieces: pl.DataFrame, part: str) -> bool:
    """Tell whether all paths are what they should be, from pieces that begin a run or are distinct: those are few."""
    few = {
        rf"(?:[^/]+/)?{part}/": first_of_runs(pieces["folder"]),
        PATIENT: first_of_runs(pieces["patient"]),
        NAME: pieces["name"].unique(),
    }
    return all(values.str.contains(rf"\A{pattern}\z").all(ignore_nulls=False) for pattern, values in few.items())


def person(rows: Rows, name: pl.Series) -> dict[str, pl.Series]:
    """Return view, sex and age, and whether the sex is Unknown; of a file without them the view in the image's name."""
    if "Sex" not in rows.frame.columns:
        is_lateral = name.str.contains("_lateral", literal=True)
        nothing = pl.Series([None], dtype=pl.Boolean).new_from_index(0, len(name))
        return {
            "view": pl.Series(SIDES, dtype=VIEW).gather(is_lateral.cast(pl.UInt32)),
            "sex": nothing.cast(SEX),
            "sex_is_unknown": nothing,
            "age": nothing.cast(pl.Int32),
        }
    rows.refuse_blank("Sex", "Age", "Frontal/Lateral")
    sex = rows.words("Sex", *SEXES)
    side = rows.words("Frontal/Lateral", *SIDES)
    projection = rows.words("AP/PA", *PROJECTIONS)
    number = pl.when(side == "Lateral").then(1).otherwise(projection.to_physical().cast(pl.UInt32) + len(SIDES))
    return {
        "view": pl.Series(VIEW.categories, dtype=VIEW).gather(pl.select(number.fill_null(0)).to_series()),
        "sex": pl.Series(list(SEXES.values()), dtype=SEX).gather(sex.to_physical().cast(pl.UInt32)),
        "sex_is_unknown": sex == "Unknown",
        "age": rows.parse("Age", parse_age, pl.Int32),
    }


def parse_age(text: str) -> int:
    """Return the whole years of an age such as ``68``; ValueError where it is none."""
    if not text.isdecimal() or int(text) > MAX_AGE_YEARS:
        raise ValueError(f"{text!r}: expected whole years, 0 to {MAX_AGE_YEARS}")
    return int(text)


DATASET = Dataset(
    name="chexpert",
    title="CheXpert",
    num_images=224_316,
    num_patients=65_240,
    label_origin=(
        "Mined from radiology reports by rules, in training; -1 is what the report leaves open, blank what it does not "
        "mention. valid.csv (234 images) and the test labels (668) are by radiologists."
    ),
    citation="Irvin et al., CheXpert, AAAI 2019; test labels: Saporta et al., Nature Machine Intelligence 2022",
    terms="Stanford University Dataset Research Use Agreement: registration, no commercial use, no redistribution.",
    vocabulary=VOCABULARY,
    image_suffixes=(".jpg",),
    documents=tuple(name for names in LABEL_FILES.values() for name in names),
    read_labels=read_labels,
    layout=(
        "train.csv, valid.csv: labels, in the root or a folder below it, such as CheXpert-v1.0-small/",
        "test_labels.csv: radiologists' labels of the test set, from CheXlocalize; optional",
        "**/patient00001/study1/view1_frontal.jpg: images, in whatever folders the patients' lie",
    ),
    match_parts=3,
    exclusions={LEFT_OUT_RULE: "images of valid.csv, which the option official-valid leaves out"},
    options={
        OFFICIAL_VALID: Option(
            default="auto",
            values=("auto", "test", "valid", "left-out"),
            help="What becomes of valid.csv, 234 images that radiologists labelled. auto: test where there are no test "
            "labels, else left out; valid: beside the patients drawn from training (none with --valid-fraction 0).",
        )
    },
)
