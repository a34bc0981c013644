"""From PadChest's lists of labels to findings: whole items only, nothing evaluated, nothing guessed."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.datasets.padchest_terms import VOCABULARY, findings_of, no_finding, parse_list
from manifests.findings import NO_FINDING
from manifests.label_spaces import PADCHEST_TERMS

FAMILIES = {
    "Atelectasis": "atelectasis, atelectasis basal, laminar atelectasis, lobar atelectasis, round atelectasis, "
    "segmental atelectasis, total atelectasis",
    "Effusion": "pleural effusion, loculated pleural effusion, loculated fissural effusion",
    "Infiltration": "infiltrates, interstitial pattern, reticular interstitial pattern, "
    "reticulonodular interstitial pattern, ground glass pattern, alveolar pattern, consolidation, air bronchogram",
    "Mass": "mass, pulmonary mass, pleural mass",
    "Nodule": "nodule, multiple nodules",
    "Pneumonia": "pneumonia, atypical pneumonia, viral pneumonia",
    "Pneumothorax": "pneumothorax, hydropneumothorax",
    "Edema": "pulmonary edema",
    "Emphysema": "emphysema",
    "Fibrosis": "pulmonary fibrosis",
    "Pleural_Thickening": "pleural thickening, apical pleural thickening, calcified pleural thickening",
    "Hernia": "hiatal hernia",
    "Fracture": "clavicle fracture, humeral fracture, rib fracture, vertebral fracture, callus rib fracture",
    "Consolidation": "consolidation",
    "Cardiomegaly": "cardiomegaly",
}

FALSE_FRIENDS = (
    "pseudonodule", "pericardial effusion", "subcutaneous emphysema", "breast mass", "mediastinal mass",
    "soft tissue mass",
)  # fmt: skip


@pytest.mark.parametrize(("finding", "words"), FAMILIES.items())
def test_a_family_is_its_words_and_no_others(finding: str, words: str) -> None:
    named = {word for word in VOCABULARY.finding_of if finding in findings_of((word,))}
    assert named == set(words.split(", "))


@pytest.mark.parametrize("word", FALSE_FRIENDS)
def test_a_false_friend_is_no_finding(word: str) -> None:
    assert findings_of((word,)) == frozenset()
    assert word not in VOCABULARY.finding_of


def test_every_finding_of_the_paper_has_a_word() -> None:
    assert set(PADCHEST_TERMS) <= set(VOCABULARY.findings)
    assert set(VOCABULARY.findings) - set(PADCHEST_TERMS) == {NO_FINDING, "Calcified Granuloma"}


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("['normal']", ("normal",)),
        ("['normal', ' cardiomegaly ']", ("normal", "cardiomegaly")),
        ("[' NSG tube', 'nsg  tube', '']", ("nsg tube",)),
        ("[\"kerley's lines\", 'normal']", ("kerley's lines", "normal")),
        (" [ 'a' , 'b' , ] ", ("a", "b")),
        ("[]", ()),
        ("['']", ()),
        ("['a, b']", ("a, b",)),
    ],
)
def test_a_list_is_its_distinct_items_without_blanks(text: str, items: tuple[str, ...]) -> None:
    assert parse_list(text) == items


@pytest.mark.parametrize(
    "text",
    [
        "", "nan", "normal", "['normal'", "'normal'", "['a' 'b']", "['a', 1]", "[['a']]", "['a'] + ['b']",
        "[__import__('os').system('true')]", "['a\\x41']", "('a',)", "{'a'}", "['a']['b']", "[,]",
    ],
)  # fmt: skip
def test_what_is_no_list_of_words_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a list such as"):
        parse_list(text)


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\\"), max_size=20)))
def test_a_list_is_read_as_python_reads_it(words: list[str]) -> None:
    text = repr([word for word in words if not ("'" in word and '"' in word)])
    expected = (" ".join(word.lower().split()) for word in ast.literal_eval(text))
    assert parse_list(text) == tuple(dict.fromkeys(word for word in expected if word))


@given(st.lists(st.sampled_from([*VOCABULARY.finding_of, *FALSE_FRIENDS])), st.sampled_from(["normal", "paper"]))
def test_no_finding_and_a_finding_exclude_each_other(words: list[str], by: str) -> None:
    found = findings_of(tuple(words))
    assert not (no_finding(tuple(words), found, by=by) and found)
    assert found == frozenset().union(*(findings_of((word,)) for word in words))


@pytest.mark.parametrize(
    ("items", "by_normal", "by_paper"),
    [
        (("normal",), True, True),
        (("normal", "unchanged"), True, True),
        (("sternotomy",), False, True),
        (("sternotomy", "unchanged"), False, True),
        (("unchanged",), None, True),
        (("suboptimal study", "exclude"), None, True),
        (("normal", "cardiomegaly"), False, False),
    ],
)
def test_no_finding_means_what_the_option_says(
    items: tuple[str, ...], by_normal: bool | None, by_paper: bool | None
) -> None:
    found = findings_of(items)
    assert no_finding(items, found, by="normal") is by_normal
    assert no_finding(items, found, by="paper") is by_paper
