"""How wrong labels shall be, and which: what `manifests.noise` is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from manifests.errors import ConfigError
from manifests.noise_model import CoOccurrence
from manifests.schema import SPLITS


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How good labels are."""

    sensitivity: float = 0.5
    """Share of what is present that is labelled so."""

    ppv: float = 0.5
    """Positive predictive value: share of the labels "present" that are right."""

    def __post_init__(self) -> None:
        for name, value in (("sensitivity", self.sensitivity), ("ppv", self.ppv)):
            if not 0 < value <= 1:
                raise ConfigError(f"{name} {value:g}: expected a share above 0 and up to 1")


@dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """What is made noisy, how, and where it goes."""

    manifest: Path
    """Manifest with the trusted labels."""

    out: Path
    """Manifest to write."""

    rates: Rates = field(default_factory=Rates)
    """Of every finding that `by_finding` does not name."""

    by_finding: Mapping[str, Rates] = field(default_factory=dict)
    """Finding -> rates of its own."""

    co_occurrence: CoOccurrence = "keep"
    """Whether the noisy labels of two findings are as associated as the clean ones, or flips are independent."""

    patient_correlation: float = 0.0
    """Share of the noise's variance that all films of a patient have in common."""

    splits: tuple[str, ...] = ("train", "valid")
    """Splits whose labels get noise."""

    seed: int = 0
    """Another seed, other flips."""

    def __post_init__(self) -> None:
        if not 0 <= self.patient_correlation <= 1:
            raise ConfigError(f"--patient-correlation {self.patient_correlation:g}: expected a share from 0 to 1")
        if self.co_occurrence not in ("keep", "ignore"):
            raise ConfigError(f"--co-occurrence {self.co_occurrence}: expected keep or ignore")
        unknown = [split for split in self.splits if split not in SPLITS]
        if unknown or not self.splits or len(set(self.splits)) < len(self.splits):
            raise ConfigError(
                f"--split {','.join(self.splits)}: expected one or more of {', '.join(SPLITS)}, each once"
            )
        if self.out.resolve() == self.manifest.resolve():
            raise ConfigError(f"--out {self.out}: the trusted labels themselves; give another path")
