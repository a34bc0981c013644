"""The tables that map a release's words to findings."""

import pytest

from manifests.datasets import MODULES, dataset
from manifests.errors import ConfigError
from manifests.findings import FINDINGS, NO_FINDING
from manifests.vocabulary import Term, Vocabulary

VOCABULARY = Vocabulary(
    (Term("Effusion", "Effusion"), Term("Pleural effusion", "Effusion"), Term("normal", NO_FINDING))
)


def test_several_words_may_name_one_finding() -> None:
    assert VOCABULARY.present(["Effusion", "Pleural effusion"]) == {"Effusion"}


def test_an_unknown_word_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ValueError, match=r"'Efusion' is unknown, did you mean 'Effusion'\?"):
        VOCABULARY.present(["Efusion"])


def test_no_finding_beside_a_finding_is_refused() -> None:
    with pytest.raises(ValueError, match="No Finding stands together with Effusion"):
        VOCABULARY.present(["normal", "Effusion"])


def test_labelled_findings_are_in_the_frozen_order() -> None:
    assert VOCABULARY.findings == ("Effusion", NO_FINDING)


@pytest.mark.parametrize("terms", [(Term("a", "Mass"), Term("a", "Nodule")), (Term("a", "Masss"),)])
def test_a_table_that_contradicts_itself_or_the_findings_cannot_be_made(terms: tuple[Term, ...]) -> None:
    with pytest.raises(AssertionError):
        Vocabulary(terms)


@pytest.mark.parametrize("name", MODULES)
def test_every_registered_dataset_says_what_it_is(name: str) -> None:
    found = dataset(name)
    assert found.name == name
    assert found.num_patients is None or found.num_images >= found.num_patients > 0
    assert all((found.title, found.label_origin, found.citation, found.terms, found.layout))
    assert set(found.vocabulary.findings) <= set(FINDINGS)


def test_an_unknown_dataset_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"--dataset nhi: unknown; did you mean nih\? \(there are: nih, chexpert, "):
        dataset("nhi")
