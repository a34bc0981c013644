"""A dataset that is made up: what a new one takes. One table of words, one reader, one description."""

import polars as pl

from manifests.dataset import OFFICIAL, Dataset, Labels
from manifests.left_out import split_off
from manifests.options import Option
from manifests.release import Release
from manifests.rows import Rows, one_of, read_rows
from manifests.vocabulary import Term, Vocabulary

COLUMNS = ("file", "person", "view", "words")

VOCABULARY = Vocabulary(
    (
        Term("wet lung", "Edema", "the toy hospital's word for it"),
        Term("big heart", "Cardiomegaly"),
        Term("fine", "No Finding"),
    )
)


def read_labels(release: Release) -> Labels:
    """Return the checked label rows of toy.csv."""
    file = release.require(("toy.csv",))
    rows = read_rows(release.read_text(file), COLUMNS, path=str(release.root / file), others="pass over")
    unmapped: dict[str, int] = {}
    frame = check_rows(rows, unmapped)
    rows.raise_problems()
    views = release.choices("views")
    kept, excluded = split_off(frame, {"view_not_wanted": ~pl.col("view").is_in(views)})
    return Labels(
        frame=kept.with_columns(pl.lit(None, pl.String).alias(OFFICIAL)),
        has_official_split=False,
        counts={},
        excluded=excluded,
        unmapped=unmapped,
        side_tables={"words": rows.frame.select(image_id="file", words="words")},
    )


def check_rows(rows: Rows, unmapped: dict[str, int]) -> pl.DataFrame:
    """Return the harmonised columns; words that the table does not have are counted in `unmapped`."""
    rows.refuse_blank("file", "person")
    rows.refuse_repeats("file")

    def known(text: str) -> frozenset[str]:
        words = text.split("+")
        for word in words:
            if word not in VOCABULARY.finding_of:
                unmapped[word] = unmapped.get(word, 0) + int((rows.frame["words"] == text).sum())
        return VOCABULARY.present(word for word in words if word in VOCABULARY.finding_of)

    return pl.DataFrame(
        [
            rows.frame["file"].alias("image_id"),
            ("films/" + rows.frame["file"]).alias("path"),
            ("toy:" + rows.frame["person"]).alias("patient_id"),
            rows.parse("view", one_of("PA", "AP", "L"), pl.String),
            *rows.expand("words", known, VOCABULARY.findings),
        ]
    )


DATASET = Dataset(
    name="toy",
    title="Toy films",
    num_images=4,
    num_patients=3,
    label_origin="Made up.",
    citation="None",
    terms="None.",
    vocabulary=VOCABULARY,
    image_suffixes=(".png",),
    documents=("toy.csv",),
    read_labels=read_labels,
    layout=("toy.csv: labels", "**/WARD/FILE.png: images"),
    match_parts=2,
    exclusions={"view_not_wanted": "images of a view that the option views does not have"},
    options={"views": Option(default="PA,AP", values=("PA", "AP", "L"), many=True, help="Views to keep.")},
    presets={"everything": {"views": "PA,AP,L"}},
)
