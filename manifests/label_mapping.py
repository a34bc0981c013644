"""What a label space asks of a dataset: which words stand for each output, and which rows are left out, in words."""

from collections.abc import Mapping
from dataclasses import dataclass

from manifests.dataset import Dataset
from manifests.label_spaces import POLICIES, LabelSpace, RowRules
from manifests.views import frontal_views
from manifests.vocabulary import Term, Vocabulary


@dataclass(frozen=True, kw_only=True)
class OutputMapping:
    """One output of a label space on one dataset."""

    finding: str
    """The output."""

    terms: tuple[Term, ...]
    """Words of the release that name it; none: the dataset does not label it, so that it is masked there."""

    kinds: tuple[str, ...]
    """Findings that it is present with, being the wider one."""


def tables_of(source: Dataset) -> Mapping[str, Vocabulary]:
    """Return the tables of a dataset under the options that choose them; under an empty name if there is but one."""
    return source.tables or {"": source.vocabulary}


def map_outputs(space: LabelSpace, vocabulary: Vocabulary) -> tuple[OutputMapping, ...]:
    """Return which words of `vocabulary` stand for each output of `space`, in the order of the outputs."""
    return tuple(
        OutputMapping(
            finding=finding,
            terms=tuple(term for term in vocabulary.terms if term.finding == finding),
            kinds=tuple(kind for kind, wider in vocabulary.kind_of.items() if wider == finding),
        )
        for finding in space.findings
    )


def rules_in_words(rules: RowRules, dataset: str | None = None) -> list[str]:
    """Return one sentence a rule that leaves rows out, in the order in which they count."""
    sentences: list[str] = []
    if rules.frontal_only:
        views = "" if dataset is None else f": another than {', '.join(frontal_views(dataset))}"
        sentences.append(f"the view is known not to be frontal{views}")
    if rules.known_age_only:
        sentences.append("the age is unknown (train and valid only)")
    if rules.leaves_out_rows_with:
        sentences.append(f"present: {', '.join(rules.leaves_out_rows_with)}")
    if rules.drops_rows_without_positive:
        sentences.append("no output is present")
    return sentences


def policies_in_words(space: LabelSpace) -> list[str]:
    """Return what becomes of an uncertain label and of a blank."""
    blank = {
        "masked": "a blank is masked",
        "zeros": "a blank counts as 0 where the dataset labels the finding, else it is masked",
    }
    return [POLICIES[space.uncertainty], blank[space.blank]]
