"""What noisy labels came to: how right they are, and how associated."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from manifests.normal import Floats
from manifests.table import BoolArray


@dataclass(frozen=True, kw_only=True)
class Reached:
    """How one finding's noisy labels stand to the trusted ones, over the labels that might change."""

    finding: str
    labels: int
    """Entries that are 1 or 0 in the chosen splits."""

    present: int
    """Of those, trusted labels "present"."""

    labelled_present: int
    """Noisy labels "present"."""

    true_positives: int
    """Both."""

    @property
    def sensitivity(self) -> float | None:
        """Share reached; None where nothing is present."""
        return self.true_positives / self.present if self.present else None

    @property
    def ppv(self) -> float | None:
        """Share reached; None where nothing is labelled present."""
        return self.true_positives / self.labelled_present if self.labelled_present else None

    @property
    def flips(self) -> int:
        """Wrong labels."""
        return self.present + self.labelled_present - 2 * self.true_positives


@dataclass(frozen=True, kw_only=True)
class NoiseReport:
    """What was written, in numbers."""

    out: Path
    flips: Path
    """Table of what was changed."""

    num_rows: int
    """Rows that might change."""

    reached: tuple[Reached, ...]
    """Finding by finding, No Finding last where the manifest has it."""

    odds_ratio: tuple[float, float]
    """Geometric mean over pairs of findings: of the trusted labels, of the noisy ones; nan for fewer than two."""

    num_out_of_reach: int
    """Pairs of findings whose association no noise of these rates can keep."""


def counted(finding: str, clean_n: BoolArray, noisy_n: BoolArray, known_n: BoolArray) -> Reached:
    """Return how the noisy labels of a finding stand to the trusted ones where these are known."""
    return Reached(
        finding=finding,
        labels=int(known_n.sum()),
        present=int((clean_n & known_n).sum()),
        labelled_present=int((noisy_n & known_n).sum()),
        true_positives=int((clean_n & noisy_n & known_n).sum()),
    )


def geometric_mean(values: Floats) -> float:
    """Return exp of the mean logarithm; nan of nothing."""
    return float(np.exp(np.log(values).mean())) if len(values) else float("nan")
