"""Counting rejected images while packing goes on, and stopping a hopeless run."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from manifests.errors import ConfigError
from pipeline.errors import TooManyRejectsError

NUM_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class RejectLimit:
    """How many rejected images a pack may have."""

    text: str
    """As the user wrote it: `25` images, or `1%` of all."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d+|\d+(\.\d+)?%", self.text, re.ASCII) or (self._is_percentage and self._value > 100):
            raise ConfigError(f"--max-rejects {self.text}: expected a number of images, or a percentage such as 1%")

    def allowed(self, num_samples: int) -> int:
        """Return how many of `num_samples` images may be rejected."""
        return int(self._value * num_samples / 100) if self._is_percentage else int(self._value)

    @property
    def _is_percentage(self) -> bool:
        return self.text.endswith("%")

    @property
    def _value(self) -> Fraction:
        return Fraction(self.text.removesuffix("%"))


@dataclass(kw_only=True)
class RejectCount:
    """Rejected images so far, by reason."""

    num_samples: int
    """Images of the whole pack."""

    limit: RejectLimit | None
    """When to stop; None: never."""

    path_of: Callable[[int], str]
    """sample_index -> path, for the summary."""

    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, rejected: Iterable[tuple[int, str]]) -> None:
        """Count images: (sample_index, reason).

        Raises:
            TooManyRejectsError: the limit is exceeded, whatever the images are that were not looked at yet.
        """
        for sample_index, reason in rejected:
            self.reasons[reason] += 1
            if len(self.examples) < NUM_EXAMPLES:
                self.examples.append(f"{self.path_of(sample_index)}: {reason.replace('_', ' ')}")
        if self.limit is not None and self.reasons.total() > (allowed := self.limit.allowed(self.num_samples)):
            examples = "".join(f"\n  {example}" for example in [*self.examples, "..."])
            raise TooManyRejectsError(
                f"stopped: {self.reasons.total():,} images are rejected already ({count_reasons(self.reasons)}), "
                f"--max-rejects {self.limit.text} allows {allowed:,} of {self.num_samples:,}{examples}"
            )


def count_reasons(reasons: Counter[str]) -> str:
    """Return reasons and counts for people, the most frequent first: `missing file 3, corrupt 1`."""
    return ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in reasons.most_common())
