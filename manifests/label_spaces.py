"""Label spaces: which findings a model puts out, in which order, which rows it leaves out, and what blanks become.

Neither polars nor torch is imported here: the trainer reads label spaces on machines that have neither the releases nor
the packing code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Literal, get_args

from manifests.errors import ConfigError
from manifests.findings import FINDINGS, NO_FINDING

PriorForm = Literal["authors", "plain"]
Uncertainty = Literal["zeros", "ones", "ignore", "smooth"]
Blank = Literal["masked", "zeros"]

POLICIES: dict[str, str] = {
    "zeros": "-1 counts as 0",
    "ones": "-1 counts as 1",
    "ignore": "-1 is masked",
    "smooth": "-1 counts, in training, as a fixed draw from 0.55 to 0.85 (U-Ones with label smoothing); else masked",
}
"""Policy for uncertain labels -> what it does; every label space takes each, as NAME:POLICY."""


@dataclass(frozen=True, kw_only=True)
class RowRules:
    """Which rows of a dataset do not belong; a row is left out under the first rule that it breaks, in this order."""

    frontal_only: bool = False
    """Leave out rows whose view is known not to be frontal (`manifests.views`)."""

    known_age_only: bool = False
    """Leave out rows of train and valid whose age is unknown: CheXpert's Age 0. Test labels tell no age at all."""

    leaves_out_rows_with: tuple[str, ...] = ()
    """A row where one of these findings is present (1) is not selected."""

    drops_rows_without_positive: bool = False
    """Leave out rows without a 1 among the outputs, whatever the policy makes of -1 and blank; `No Finding` counts."""


@dataclass(frozen=True, kw_only=True)
class LabelSpace(RowRules):
    """An ordered set of outputs, the rows that do not belong, and what becomes of an uncertain label and of a blank.

    A finding that a dataset does not label is masked there, whatever the policies: never negative.
    """

    name: str
    """Name on the command line, in recipes and in checkpoints."""

    findings: tuple[str, ...]
    """Outputs in order; each is a name of `manifests.findings.FINDINGS`."""

    uncertainty: Uncertainty = "zeros"
    """What -1 becomes: a key of `POLICIES`."""

    blank: Blank = "masked"
    """What null becomes where the row's dataset labels the finding: masked, or 0 (CheXpert: not mentioned). A row
    without any label is masked in any case."""

    on_dataset: Mapping[str, RowRules] = field(default_factory=dict)
    """Dataset -> the rules of its rows, in place of this label space's own."""

    description: str = ""
    """One line for people: what it is for and where it comes from."""

    def __post_init__(self) -> None:
        rules = (self, *self.on_dataset.values())
        named = (*self.findings, *(name for rule in rules for name in rule.leaves_out_rows_with))
        unknown = [name for name in named if name not in FINDINGS]
        if unknown or len(set(self.findings)) != len(self.findings) or not self.findings:
            raise ConfigError(f"label space {self.name}: unknown, repeated or no findings: {unknown or self.findings}")

    @property
    def has_no_finding(self) -> bool:
        """Tell whether `No Finding` is one of the outputs."""
        return NO_FINDING in self.findings

    @property
    def disease_columns(self) -> tuple[int, ...]:
        """Columns of the outputs other than `No Finding`: those over which means are taken."""
        return tuple(column for column, name in enumerate(self.findings) if name != NO_FINDING)

    def rules_on(self, dataset: str) -> RowRules:
        """Return the rules for the rows of `dataset`."""
        return self.on_dataset.get(dataset, self)


OPENI_TERMS = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax", "Edema",
    "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia", "Fracture", "Lung Opacity", "Lung Lesion",
    "Calcified Granuloma", "Granuloma",
)  # fmt: skip
"""The 18 terms that NVUM's authors look for in OpenI."""

PADCHEST_TERMS = (
    "Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema", "Fibrosis", "Effusion",
    "Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass", "Hernia", "Fracture", "Granuloma",
    "Flattened Diaphragm", "Bronchiectasis", "Aortic Elongation", "Scoliosis", "Hilar Enlargement", "Tuberculosis",
    "Air Trapping", "Costophrenic Angle Blunting", "Aortic Atheromatosis", "Hemidiaphragm Elevation",
    "Support Devices", "Tube",
)  # fmt: skip
"""The 28 terms that they look for in PadChest."""


def rows_inside(findings: tuple[str, ...]) -> dict[str, RowRules]:
    """Return the rules of NVUM's test sets: frontal; a row with one of their terms that is no output is left out."""
    terms = {"openi": OPENI_TERMS, "padchest": PADCHEST_TERMS}
    return {
        dataset: RowRules(frontal_only=True, leaves_out_rows_with=tuple(name for name in names if name not in findings))
        for dataset, names in terms.items()
    }


NIH14 = LabelSpace(
    name="nih14",
    findings=(
        "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
        "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
    ),
    frontal_only=True,
    description="The 14 findings of ChestX-ray14, in the order of its paper; every frontal image, as all of its are.",
)  # fmt: skip

NVUM_NIH_FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia", NO_FINDING,
)  # fmt: skip

NVUM_NIH = LabelSpace(
    name="nvum-nih",
    findings=NVUM_NIH_FINDINGS,
    frontal_only=True,
    leaves_out_rows_with=("Consolidation",),
    on_dataset=rows_inside(NVUM_NIH_FINDINGS),
    description="NVUM's benchmark on ChestX-ray14: 13 findings + No Finding; rows with Consolidation are left out.",
)

NVUM_CXP_FINDINGS = (
    "Cardiomegaly", "Edema", "Pneumonia", "Atelectasis", "Pneumothorax", "Effusion", "Fracture", NO_FINDING,
)  # fmt: skip

CUT_FROM_CHEXPERT = (
    "Consolidation", "Enlarged Cardiomediastinum", "Pleural Other", "Support Devices", "Lung Opacity", "Lung Lesion",
)  # fmt: skip
"""CheXpert's findings that are no output of `nvum-cxp`."""

NVUM_CXP = LabelSpace(
    name="nvum-cxp",
    findings=NVUM_CXP_FINDINGS,
    frontal_only=True,
    leaves_out_rows_with=CUT_FROM_CHEXPERT,
    blank="zeros",
    on_dataset={
        "chexpert": RowRules(
            frontal_only=True,
            known_age_only=True,
            leaves_out_rows_with=CUT_FROM_CHEXPERT,
            drops_rows_without_positive=True,
        ),
        **rows_inside(NVUM_CXP_FINDINGS),
    },
    description=(
        "NVUM's benchmark on CheXpert: 7 findings + No Finding, frontal, U-Zeros; as its authors do, rows where one of "
        "the six other findings is present are left out, then rows without a label."
    ),
)

NVUM_CXP_COLUMNS = LabelSpace(
    name="nvum-cxp-columns",
    findings=NVUM_CXP_FINDINGS,
    frontal_only=True,
    blank="zeros",
    on_dataset={
        "chexpert": RowRules(frontal_only=True, known_age_only=True, drops_rows_without_positive=True),
        **rows_inside(NVUM_CXP_FINDINGS),
    },
    description="As nvum-cxp, but CheXpert's six other findings are left out as columns only: their rows stay. OpenI "
    "and PadChest, being test sets, lose the same rows in both, so that their models meet the same images.",
)

CHEXPERT14 = LabelSpace(
    name="chexpert14",
    findings=(
        NO_FINDING, "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
        "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Effusion", "Pleural Other", "Fracture",
        "Support Devices",
    ),
    uncertainty="ignore",
    blank="zeros",
    description="The 14 labels of CheXpert and MIMIC-CXR, in their order; every row; uncertain labels are masked.",
)  # fmt: skip

LABEL_SPACES: dict[str, LabelSpace] = {
    space.name: space for space in (NIH14, NVUM_NIH, NVUM_CXP, NVUM_CXP_COLUMNS, CHEXPERT14)
}


def label_space(name: str) -> LabelSpace:
    """Return the label space called `name`; ``NAME:POLICY`` is NAME with another policy for uncertain labels.

    Raises:
        ConfigError: no such label space or policy; the message lists them and the nearest name.
    """
    base, colon, policy = name.partition(":")
    if base not in LABEL_SPACES:
        near = get_close_matches(base, LABEL_SPACES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"label space {name!r}: unknown{hint} (there are: {', '.join(LABEL_SPACES)})")
    if not colon:
        return LABEL_SPACES[base]
    for uncertainty in get_args(Uncertainty):
        if uncertainty == policy:
            return replace(LABEL_SPACES[base], name=name, uncertainty=uncertainty)
    raise ConfigError(f"label space {name!r}: policy {policy!r} is unknown (there are: {', '.join(POLICIES)})")
