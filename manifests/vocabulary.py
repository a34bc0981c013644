"""How the words of a release map to the harmonised findings: one table a dataset, and nothing hidden in code."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import NamedTuple

from manifests.findings import FINDINGS, NO_FINDING
from manifests.schema import finding_columns


class Term(NamedTuple):
    """One word of a release and the finding that it names."""

    source: str
    """The word, to the letter."""

    finding: str
    """A name of `manifests.findings.FINDINGS`."""

    because: str = ""
    """Why, where the two do not bear the same name."""


def family(finding: str, *words: str, because: str = "") -> tuple[Term, ...]:
    """Return one term for each of `words`, all of which name `finding`."""
    return tuple(Term(word, finding, because) for word in words)


@dataclass(frozen=True)
class Vocabulary:
    """Every word that a release uses for a finding; a word outside it is an error, never silently nothing."""

    terms: tuple[Term, ...]
    """The table; a source word stands in it once."""

    kind_of: Mapping[str, str] = field(default_factory=dict)
    """Finding -> wider finding that is present with it, where the release's words are read so."""

    def __post_init__(self) -> None:
        assert len(self.finding_of) == len(self.terms), "a source word stands twice in the table"
        named = {*self.finding_of.values(), *self.kind_of, *self.kind_of.values()}
        assert named <= set(FINDINGS), "a term names no harmonised finding"

    @cached_property
    def finding_of(self) -> dict[str, str]:
        """Source word -> finding."""
        return {term.source: term.finding for term in self.terms}

    @cached_property
    def findings(self) -> tuple[str, ...]:
        """Findings that the release labels, in the frozen order."""
        return finding_columns(tuple(self.finding_of.values()))

    def with_wider(self, findings: Iterable[str]) -> frozenset[str]:
        """Return `findings` and the wider ones that are present with them."""
        found = frozenset(findings)
        return found | {self.kind_of[finding] for finding in found if finding in self.kind_of}

    def present(self, words: Iterable[str]) -> frozenset[str]:
        """Return the findings that `words`, all words of one image, name.

        Raises:
            ValueError: a word is unknown, or `No Finding` stands beside a finding; the message says which.
        """
        words = list(words)
        unknown = [word for word in words if word not in self.finding_of]
        if unknown:
            raise ValueError("; ".join(self._unknown(word) for word in unknown))
        found = frozenset(self.finding_of[word] for word in words)
        if NO_FINDING in found and len(found) > 1:
            raise ValueError(f"{NO_FINDING} stands together with {', '.join(sorted(found - {NO_FINDING}))}")
        return found

    def _unknown(self, word: str) -> str:
        near = get_close_matches(word, self.finding_of, n=1)
        return f"finding {word!r} is unknown" + (f", did you mean {near[0]!r}?" if near else "")
