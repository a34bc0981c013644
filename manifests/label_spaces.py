"""Label spaces: which findings a model puts out, in which order, and which rows it leaves out.

Neither polars nor torch is imported here: the trainer reads label spaces on machines that have neither the releases nor
the packing code.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from manifests.errors import ConfigError
from manifests.findings import FINDINGS, NO_FINDING

PriorForm = Literal["authors", "plain"]
Uncertainty = Literal["zeros", "ones", "ignore"]


@dataclass(frozen=True, kw_only=True)
class LabelSpace:
    """An ordered set of outputs, the rows that do not belong, and what becomes of an uncertain label."""

    name: str
    """Name on the command line, in recipes and in checkpoints."""

    findings: tuple[str, ...]
    """Outputs in order; each is a name of `manifests.findings.FINDINGS`."""

    leaves_out_rows_with: tuple[str, ...] = ()
    """A row where one of these findings is present (1) is not selected."""

    uncertainty: Uncertainty = "zeros"
    """What -1 becomes: 0, 1, or masked."""

    description: str = ""
    """One line for people: what it is for and where it comes from."""

    def __post_init__(self) -> None:
        unknown = [name for name in (*self.findings, *self.leaves_out_rows_with) if name not in FINDINGS]
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


NIH14 = LabelSpace(
    name="nih14",
    findings=(
        "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
        "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
    ),
    description="The 14 findings of ChestX-ray14, in the order of its paper; every row.",
)  # fmt: skip

NVUM_NIH = LabelSpace(
    name="nvum-nih",
    findings=(
        "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
        "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia", NO_FINDING,
    ),
    leaves_out_rows_with=("Consolidation",),
    description="NVUM's benchmark on ChestX-ray14: 13 findings + No Finding; rows with Consolidation are left out.",
)  # fmt: skip

LABEL_SPACES: dict[str, LabelSpace] = {space.name: space for space in (NIH14, NVUM_NIH)}


def label_space(name: str) -> LabelSpace:
    """Return the label space called `name`.

    Raises:
        ConfigError: no such label space; the message lists them and the nearest name.
    """
    if name in LABEL_SPACES:
        return LABEL_SPACES[name]
    near = get_close_matches(name, LABEL_SPACES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"label space {name!r}: unknown{hint} (there are: {', '.join(LABEL_SPACES)})")
