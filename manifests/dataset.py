"""What a dataset module declares, and what its reader hands to the shared machinery of `manifests.build`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    or null (the row is left out)."""

    has_official_split: bool
    """Whether `OFFICIAL` means anything; if not, all rows are split by patient."""

    counts: dict[str, int]
    """What the reader met and a person should know, under stable names, e.g. ``ages_over_100``."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One public release: what it is, how its words map to findings, and how to read its label file."""

    name: str
    """Name on the command line and in the column `dataset`."""

    title: str
    """Full name."""

    num_images: int
    """Images of the complete release."""

    num_patients: int
    """Patients of the complete release."""

    label_origin: str
    """Where the labels come from, and how far they can be trusted."""

    citation: str
    """The paper to cite."""

    terms: str
    """Terms of use, in one line; the release's own text is what binds."""

    vocabulary: Vocabulary
    """Words of the release -> findings."""

    image_suffixes: tuple[str, ...]
    """Endings of the image files, lower case, with dot."""

    documents: tuple[str, ...]
    """Names of the label files and lists that the reader may ask for."""

    read_labels: Callable[[Release], Labels]
    """Read the label file; raises ManifestError with all problems together."""
