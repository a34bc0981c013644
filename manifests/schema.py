"""The manifest's columns: names, order and types; the one contract between releases, packs and training.

Neither polars nor pyarrow is imported here: a type is the word that both of them use.
"""

from manifests.findings import FINDINGS

SCHEMA_VERSION = "1"
"""Changes whenever a reader of the old version would misread the new one."""

METADATA_KEY = "cxr"
"""Key of the JSON in the Parquet file's metadata: schema_version, dataset, sources, counts, exclusions, split."""

SPLITS = ("train", "valid", "test")
"""Values of the column `split`."""

REQUIRED_COLUMNS: dict[str, str] = {
    "dataset": "String",  # name in the registry, "nih"
    "image_id": "String",  # unique in its dataset
    "path": "String",  # relative to the release's root, with "/"
    "patient_id": "String",  # "<dataset>:<id of the release>", so that no two datasets share a patient by accident
    "study_id": "String",
    "view": "String",  # the release's own word: PA, AP, ...
    "sex": "String",  # F or M
    "age_years": "Float32",  # fractions, because infants' ages come in months and days
    "split": "String",
    "width": "Int32",  # px, of the image as acquired, where the release tells it
    "height": "Int32",
}
"""Column -> type, in order; the finding columns follow."""

NEVER_NULL = ("dataset", "image_id", "path", "patient_id", "split")

FINDING_TYPE = "Int8"
"""1 present, 0 absent, -1 uncertain, null not labelled by the source."""


def finding_columns(labelled: tuple[str, ...]) -> tuple[str, ...]:
    """Return the finding columns of a dataset that labels `labelled`, in the frozen order; absent ones mean null."""
    return tuple(name for name in FINDINGS if name in labelled)
