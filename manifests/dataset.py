"""What a dataset module declares, and what its reader hands to the shared machinery of `manifests.build`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from manifests.options import Option
from manifests.release import Release
from manifests.vocabulary import Vocabulary

if TYPE_CHECKING:
    import polars as pl

OFFICIAL = "official"
"""Column of `Labels.frame`: what the release's own split says."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The label rows of a release, checked, in the order of its label file."""

    frame: "pl.DataFrame"
    """One row an image, image_id unique. Columns of `manifests.schema.REQUIRED_COLUMNS` but `dataset` and `split`
    (one that the release does not tell may be missing), `path` being where the release would have the image; one Int8
    column a finding; and `OFFICIAL`, String: ``train_val`` (validation is carved out), ``train``, ``valid``, ``test``,
    or null (the row is left out). Text of few words, known beforehand, may be an Enum: it is written as text."""

    has_official_split: bool
    """Whether `OFFICIAL` means anything; if not, all rows are split by patient."""

    counts: dict[str, int]
    """What the reader met and a person should know, under stable names, e.g. ``ages_over_100``."""

    excluded: "pl.DataFrame | None" = None
    """Rows that a rule of `Dataset.exclusions` leaves out, as `manifests.left_out.listed` or `split_off` give them:
    String columns reason (the rule), image_id, and path, where the release would have the image (so that its file is
    known); both may be null. They are counted and listed, and are not in `frame`."""

    labelled: tuple[str, ...] | None = None
    """Findings that the rows are labelled for, where an option narrows them; None: all of the vocabulary."""

    split_rule: str | None = None
    """How `OFFICIAL` came about, in words, where it is not by the release's lists."""

    unmapped: Mapping[str, int] = field(default_factory=dict)
    """Words of an open vocabulary that name no finding -> images (or reports) that bear them. They are counted in the
    metadata and listed in a side table, never guessed."""

    side_tables: "Mapping[str, pl.DataFrame]" = field(default_factory=dict)
    """Name -> table that is written beside the manifest as ``<manifest>.<name>.csv``; one without a row is not, and
    one that an earlier build left there goes."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One public release: what it is, how its words map to findings, and how to read its label file."""

    name: str
    """Name on the command line and in the column `dataset`."""

    title: str
    """Full name."""

    num_images: int
    """Images of the complete release."""

    num_patients: int | None
    """Patients of the complete release; None where it does not tell."""

    label_origin: str
    """Where the labels come from, and how far they can be trusted."""

    citation: str
    """The paper to cite."""

    terms: str
    """Terms of use, in one line; the release's own text is what binds."""

    vocabulary: Vocabulary
    """Words of the release -> findings."""

    tables: Mapping[str, Vocabulary] = field(default_factory=dict)
    """Values of options, in words -> the table that they choose, where there are several; `vocabulary` then has all."""

    image_suffixes: tuple[str, ...]
    """Endings of the image files, lower case, with dot."""

    documents: tuple[str, ...]
    """Names of the label files and lists that the reader may ask for."""

    read_labels: Callable[[Release], Labels]
    """Read the label file; raises ManifestError with all problems together."""

    layout: tuple[str, ...]
    """Which files are expected where below the root: one a line, each with what it is."""

    match_parts: int = 1
    """How many last parts of a row's `path` name its file: 1 the file name alone, which then is unique, 3 the file with
    two folders. So a release may lie as deep, or in as many folders, as its owner likes."""

    exclusions: Mapping[str, str] = field(default_factory=dict)
    """Rule of `Labels.excluded` -> what it counts, as in `manifests.left_out.MEANING`."""

    options: Mapping[str, Option] = field(default_factory=dict)
    """Choices of this dataset's own: name -> option. The reader asks with `Release.option` and `Release.choices`."""

    presets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Name of a preset -> option -> value."""
