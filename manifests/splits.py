"""Train, validation and test: official lists where a release has them, else by patient; never a patient in two splits.

Where no list decides, a patient's split follows from a hash of the seed and the patient's id alone, so that it never
depends on which other files are there: a partial download splits like the whole release.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from zlib import crc32

import polars as pl

from manifests.dataset import OFFICIAL
from manifests.errors import ConfigError, ManifestError
from manifests.fraction import NUM_HASHES, fraction_of, seeded
from manifests.lines import LINE, text_lines
from manifests.release import Release
from manifests.rows import Rows, is_plain_name
from manifests.runs import by_runs
from manifests.schema import SPLITS

TEST_FRACTION = 0.2
"""Patients in test where a release has no official split."""

MAX_VALID_FRACTION = 0.5

SPLIT = pl.Enum(SPLITS)
"""Of the column `split` until it is written: numbers, each of which stands for a word."""


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How patients are drawn where the release leaves the choice."""

    seed: int = 0
    """Another seed draws other patients."""

    valid_fraction: float = 0.1
    """Patients in validation, of all that are not in an official test."""

    def __post_init__(self) -> None:
        if not 0 <= self.valid_fraction <= MAX_VALID_FRACTION:
            raise ConfigError(f"--valid-fraction {self.valid_fraction}: expected 0 to {MAX_VALID_FRACTION}")


def patient_fraction(patient_id: str, seed: int) -> float:
    """Return a number in [0, 1), uniform over patients, that depends on `patient_id` and `seed` alone.

    Validation takes the patients below `valid_fraction`, test (without official lists) those from 1 - `TEST_FRACTION`.
    """
    return fraction_of(patient_id, seed)


def patient_fractions(patient_ids: pl.Series, seed: int) -> pl.Series:
    """Return `patient_fraction` of each, Float64 [n]."""
    checksums = pl.Series(map(crc32, patient_ids.cast(pl.Binary)), dtype=pl.UInt64)
    return (seeded(checksums, seed) / NUM_HASHES).alias("fraction")


def split_column(patient_ids: pl.Series, official: pl.Series | None, config: SplitConfig) -> pl.Series:
    """Return `train`, `valid`, `test` or null (in no official list) a row, as `SPLIT`.

    Args:
        patient_ids: String [n].
        official: String [n] as in `manifests.dataset.Labels`, or None where the release has no split of its own.
        config: how patients are drawn where the release leaves the choice.

    Raises:
        ManifestError: the official split puts images of one patient into two splits.
    """
    if official is None:
        return draw(patient_ids, config, from_test=True)
    _refuse_shared_patients(patient_ids, official)
    is_drawn = official == "train_val"
    if is_drawn.all(ignore_nulls=False):
        return draw(patient_ids, config, from_test=False)
    drawn = draw(patient_ids.filter(is_drawn), config, from_test=False)
    # Row by row: what was drawn where the official split leaves it open, elsewhere what that says.
    positions = is_drawn.arg_true()
    return official.cast(SPLIT, strict=False).scatter(positions, drawn).alias("split")


def draw(patient_ids: pl.Series, config: SplitConfig, *, from_test: bool) -> pl.Series:
    """Return `train`, `valid`, or (with `from_test`) `test` a row, as `SPLIT`, by `patient_fraction` of its patient."""
    train_end = 1 - TEST_FRACTION if from_test else 1

    def drawn(patients: pl.Series) -> pl.Series:
        fraction = patient_fractions(patients, config.seed)
        end = (fraction >= config.valid_fraction).cast(pl.UInt32) + (fraction >= train_end).cast(pl.UInt32)
        return pl.Series(["valid", "train", "test"], dtype=SPLIT).gather(end)

    return by_runs(patient_ids, drawn).alias("split")


def _refuse_shared_patients(patient_ids: pl.Series, official: pl.Series) -> None:
    if official.n_unique() == 1:
        return
    rows = pl.LazyFrame({"patient_id": patient_ids, OFFICIAL: official})
    used = rows.filter(pl.col(OFFICIAL).is_not_null()).unique().collect()
    if used["patient_id"].n_unique() < len(used):
        shared = used.group_by("patient_id").agg(pl.col(OFFICIAL).sort()).filter(pl.col(OFFICIAL).list.len() > 1)
        problems = [f"patient {patient}: {' and '.join(where)}" for patient, where in shared.sort("patient_id").rows()]
        raise ManifestError(
            f"official split: {len(problems):,} patients with images in two splits; download the lists again", problems
        )


def official_by_lists(
    release: Release, image_ids: pl.Series, lists: Mapping[str, str], *, beside: str
) -> pl.Series | None:
    """Return the official split a row from text files with one image a line; None where no list is there.

    Args:
        release: the release; the lists are noted among its sources.
        image_ids: String [n].
        lists: split -> name of its list.
        beside: the label file, whose folder is looked into first.

    Raises:
        ManifestError: some lists are there and some are not, or an image is in two of them.
    """
    found = {split: release.find((name,), beside=beside) for split, name in lists.items()}
    paths = {split: path for split, path in found.items() if path is not None}
    if not paths:
        return None
    if len(paths) < len(lists):
        missing = " and ".join(lists[split] for split in lists if split not in paths)
        raise ManifestError(
            f"{release.root}: {' and '.join(paths.values())} is there but {missing} is not; "
            "add it, or take both away to split by patient"
        )
    listed = pl.concat(
        read_name_list(release, path).with_columns(pl.lit(split).alias(OFFICIAL)) for split, path in paths.items()
    )
    if listed["image_id"].n_unique() < len(listed):
        listed = listed.unique()  # a name twice in one list does no harm
        twice = listed.filter(pl.col("image_id").is_duplicated())["image_id"].unique().sort().to_list()
        if twice:
            both = " and ".join(paths.values())
            raise ManifestError(
                f"{release.root}: {len(twice):,} images in both {both}; download the lists again", twice
            )
    rows = image_ids.to_frame("image_id").join(listed, on="image_id", how="left", maintain_order="left")
    return rows[OFFICIAL]


def read_name_list(release: Release, file: str) -> pl.DataFrame:
    """Return column `image_id` of a list with one name a line; blank lines are passed over.

    Raises:
        ManifestError: a line is no plain file name; all such lines are reported together.
    """
    lines = text_lines(release.read_text(file)).select(LINE, image_id=pl.col("text").str.strip_chars())
    rows = Rows(str(release.root / file), lines.filter(pl.col("image_id") != ""))
    rows.refuse(~is_plain_name("image_id"), "{!r}: expected the plain name of an image file", "image_id")
    rows.raise_problems()
    return rows.frame.select("image_id")
