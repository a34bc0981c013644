"""From OpenI's MeSH terms to findings: the paper's substrings, whole terms, and where the two part."""

import pytest
from typer.testing import CliRunner

from manifests.datasets.openi import FALSE_FRIENDS
from manifests.datasets.openi_terms import (
    AUTOMATIC_TERMS,
    EVERY_TERM,
    MAJOR_TERMS,
    MATCHINGS,
    PAPER_TERMS,
    is_heading,
    is_part,
    is_whole,
)  # fmt: skip
from manifests.findings import NO_FINDING
from manifests.label_spaces import OPENI_TERMS
from pipeline.cli import app


def findings(style: str, mesh: str, term: str) -> set[str]:
    return set(MATCHINGS[style, mesh].findings_of([term])[term])


def test_the_paper_looks_for_its_eighteen_findings() -> None:
    assert {term.finding for term in PAPER_TERMS} == {*OPENI_TERMS, NO_FINDING}


@pytest.mark.parametrize(("term", "finding"), FALSE_FRIENDS.items())
def test_a_false_friend_is_a_finding_for_the_paper_alone(term: str, finding: str) -> None:
    assert findings("paper", "automatic", term) == {finding}
    assert findings("terms", "automatic", term) == set()


@pytest.mark.parametrize(
    "term",
    [
        "Pericardial Effusion/large", "Subcutaneous Emphysema/neck/bilateral", "Mediastinal Emphysema",
        "Cystic Fibrosis", "Mass/right/paratracheal", "Mass/breast/large", "Mass/mediastinum/right",
        "Thickening/bronchi", "Costophrenic Angle/left/obscured", "Diaphragm/bilateral/obscured",
        "Opacity/ribs/anterior", "Calcinosis/lung/hilum/lymph nodes", "Nodule/heart/left/small", "No Indexing",
    ],
)  # fmt: skip
def test_a_major_term_about_another_part_is_no_finding(term: str) -> None:
    assert findings("terms", "major", term) == set()


@pytest.mark.parametrize(
    ("style", "mesh", "term", "expected"),
    [
        ("paper", "automatic", "Infiltrates", {"Infiltration"}),
        ("paper", "automatic", "atelectases", {"Atelectasis"}),
        ("paper", "automatic", "Pleural Thickening", {"Pleural_Thickening"}),
        ("paper", "automatic", "mass lesion", {"Mass", "Lung Lesion"}),
        ("paper", "automatic", "calcified granuloma", {"Calcified Granuloma", "Granuloma"}),
        ("paper", "automatic", "granulomatous disease", {"Granuloma"}),
        ("paper", "automatic", "bronchial wall thickening", set()),
        ("paper", "automatic", "abnormal", set()),
        ("paper", "major", "normal", {NO_FINDING}),
        ("paper", "major", "Pulmonary Atelectasis/base/left", {"Atelectasis"}),
        ("terms", "automatic", "Calcified Granuloma", {"Calcified Granuloma", "Granuloma"}),
        ("terms", "automatic", "Hydropneumothorax", {"Pneumothorax"}),
        ("terms", "automatic", "pneumonitis", set()),
        ("terms", "automatic", "pneumonectomy", set()),
        ("terms", "automatic", "hip fractures", set()),
        ("terms", "automatic", "pleural fluid", {"Effusion"}),
        ("terms", "major", "Thickening/pleura/apex/bilateral/mild", {"Pleural_Thickening"}),
        ("terms", "major", "Thickening/apex/pleura", {"Pleural_Thickening"}),
        ("terms", "major", "Aorta, Thoracic/tortuous/mild", {"Aortic Elongation"}),
        ("terms", "major", "Calcified Granuloma/lung/lingula", {"Calcified Granuloma", "Granuloma"}),
        ("terms", "major", "Costophrenic Angle/sulcus/left/blunted", {"Costophrenic Angle Blunting"}),
        ("terms", "major", "Mass/lung/hilum/right", {"Mass"}),
        ("terms", "major", "Hydropneumothorax/right", {"Pneumothorax"}),
        ("terms", "major", "normal", {NO_FINDING}),
    ],
)
def test_a_term_names_its_findings(style: str, mesh: str, term: str, expected: set[str]) -> None:
    assert findings(style, mesh, term) == expected


@pytest.mark.parametrize(("style", "mesh"), [key for key in MATCHINGS if key[0] == "terms"])
def test_every_word_of_a_table_names_its_own_finding(style: str, mesh: str) -> None:
    for term in MATCHINGS[style, mesh].vocabulary.terms:
        assert term.finding in findings(style, mesh, term.source)
        assert term.finding in findings(style, mesh, term.source.upper())


def test_the_ways_of_matching_differ_as_they_say() -> None:
    assert is_part("mass", "Thyroid Mass")
    assert not is_whole("mass", "Thyroid Mass")
    assert is_heading("Mass/lung", "mass/LUNG/apex")
    assert not is_heading("Mass/lung", "Mass")
    assert not is_heading("Mass/lung", "Lung/mass")


def test_the_table_of_all_has_every_word_once() -> None:
    words = {term.source for term in (*PAPER_TERMS, *AUTOMATIC_TERMS, *MAJOR_TERMS)}
    assert set(EVERY_TERM.finding_of) == words


@pytest.mark.parametrize(("options", "word"), [("labels=paper", "infiltrate;"), ("mesh=major", "Infiltrate")])
def test_each_table_is_shown_under_the_options_that_choose_it(options: str, word: str) -> None:
    printed = CliRunner().invoke(app, ["label-space", "show", "nvum-nih", "--dataset", "openi"]).output
    (section,) = (part for part in printed.split("\n\n") if options in part.splitlines()[0])
    assert word in f"{section.replace(chr(10), ';')};"
