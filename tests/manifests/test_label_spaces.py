"""Label spaces by name, their policies, and what the command line shows of them."""

import subprocess
import sys

import pytest

from manifests.errors import ConfigError
from manifests.findings import FINDINGS
from manifests.label_spaces import LABEL_SPACES, OPENI_TERMS, PADCHEST_TERMS, POLICIES, LabelSpace, label_space


@pytest.mark.parametrize("name", LABEL_SPACES)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_label_space_takes_every_policy_and_keeps_the_rest(name: str, policy: str) -> None:
    base, found = LABEL_SPACES[name], label_space(f"{name}:{policy}")
    assert (found.name, found.uncertainty) == (f"{name}:{policy}", policy)
    assert (found.findings, found.blank, found.on_dataset) == (base.findings, base.blank, base.on_dataset)
    assert label_space(name) is base


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nvum-cpx", r"label space 'nvum-cpx': unknown; did you mean nvum-cxp\?"),
        (
            "nvum-cxp:one",
            r"label space 'nvum-cxp:one': policy 'one' is unknown \(there are: zeros, ones, ",
        ),
        ("nvum-cxp:", r"policy '' is unknown"),
    ],
)
def test_unknown_names_and_policies_are_refused_with_those_there_are(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        label_space(name)


def test_the_outputs_of_the_benchmarks_are_in_their_order() -> None:
    assert label_space("nvum-cxp").findings == label_space("nvum-cxp-columns").findings == (
        "Cardiomegaly", "Edema", "Pneumonia", "Atelectasis", "Pneumothorax", "Effusion", "Fracture", "No Finding",
    )  # fmt: skip
    assert len(label_space("chexpert14").findings) == 14


@pytest.mark.parametrize("name", ["nvum-nih", "nvum-cxp", "nvum-cxp-columns"])
@pytest.mark.parametrize(("dataset", "terms"), [("openi", OPENI_TERMS), ("padchest", PADCHEST_TERMS)])
def test_a_test_sets_term_is_an_output_or_leaves_its_rows_out(name: str, dataset: str, terms: tuple[str, ...]) -> None:
    space = label_space(name)
    assert set(space.rules_on(dataset).leaves_out_rows_with) == set(terms) - set(space.findings)


def test_the_authors_terms_are_as_many_as_theirs() -> None:
    assert (len(set(OPENI_TERMS)), len(set(PADCHEST_TERMS))) == (18, 28)
    assert {*OPENI_TERMS, *PADCHEST_TERMS} <= set(FINDINGS)


@pytest.mark.parametrize("findings", [(), ("Mass", "Mass"), ("Masss",)])
def test_a_label_space_of_no_repeated_or_unknown_findings_cannot_be_made(findings: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="label space x: unknown, repeated or no findings"):
        LabelSpace(name="x", findings=findings)


def shown(*arguments: str) -> list[str]:
    command = [sys.executable, "-m", "pipeline.cli", "label-space", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_list_has_every_label_space_and_policy() -> None:
    lines = shown("list")
    assert [line.split()[0] for line in lines[: len(LABEL_SPACES)]] == list(LABEL_SPACES)
    assert [line.split()[0] for line in lines[-len(POLICIES) :]] == [f":{policy}" for policy in POLICIES]


def test_show_tells_outputs_policies_and_rows_left_out() -> None:
    lines = shown("show", "nvum-cxp:ones", "--dataset", "chexpert")
    assert lines[1].startswith("labels: -1 counts as 1; a blank counts as 0 where the dataset labels the finding")
    assert lines[2].startswith("rows left out of chexpert: the view is known not to be frontal: another than PA, AP")
    assert "  6 Effusion                    <- Pleural Effusion" in lines
    plain = shown("show", "nvum-nih")
    assert [line[:15].strip() for line in plain[-2:]] == ["13 Hernia", "14 No Finding"]
    assert any(line.startswith("rows left out of padchest:") for line in plain)
