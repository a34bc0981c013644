"""What a profile says and writes: the page, the terminal, JSON that the next one is compared with."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from manifests.errors import ConfigError
from tests.trainer.profile_cases import PARTS, RATES, measured, on_cpu, rank_measured
from trainer.profile.compare import compared, other_hardware, read_profile, tolerance_of, write_profile
from trainer.profile.figures import ticks
from trainer.profile.measurements import Measurements
from trainer.profile.page import page_html, write_page
from trainer.profile.terminal import show
from trainer.profile.verdict import shown, verdict_of
from trainer.profile.what_if import what_ifs


def two_ranks() -> Measurements:
    parts = PARTS | {"all-reduce": 0.002}
    return measured([rank_measured(rank, parts=parts, wait_s=0.001) for rank in range(2)])


def in_terminal(found: Measurements) -> str:
    screen = io.StringIO()
    show(Console(file=screen, width=140), found, verdict_of(found), what_ifs(found))
    return screen.getvalue()


def test_the_terminal_says_verdict_option_rates_split_and_what_if() -> None:
    said = in_terminal(on_cpu(measured([rank_measured(cores=1.0)])))
    assert said.startswith("bound by COMPUTE\n")
    assert "try: a GPU" in said
    assert re.search(r"read from the disk +2,000 ", said)
    assert re.search(r"copy to the GPU +n/a +n/a +n/a +there is no GPU", said)
    assert re.search(r"backward +40\.00 +40\.00 +40\.00 +50\.0%", said)
    assert re.search(r"twice the cores +250 ", said)


def test_several_ranks_are_shown_together_and_one_by_one() -> None:
    said = in_terminal(two_ranks())
    assert re.search(r"images/s +120 +120", said)
    assert "All ranks: 241 images/s" in said
    assert "Rank 0 on host0" in said
    assert "Rank 1 on host0" in said
    assert re.search(r"copy, beside the step +0\.20 +n/a +n/a +hidden", said)


@pytest.mark.parametrize("found", [measured(), two_ranks(), on_cpu(measured())], ids=["gpu", "two", "cpu"])
def test_the_page_opens_without_a_network_or_scripts_and_is_the_same_each_time(found: Measurements) -> None:
    html = page_html(found)
    assert html == page_html(found)
    assert not re.search(r"<script|https?://|@import|url\(", html)
    assert html.count("<svg") == 2
    assert html.count('class="step"') == 5 * len(found.ranks), "a line for each step of each rank"
    assert "prefers-color-scheme: dark" in html
    assert "Bound by COMPUTE" in html
    assert ("<li><code>--set loader.batch_size=20</code>: larger batches" in html) == (found.subject.device == "cuda")


def test_what_is_written_can_be_read_again(tmp_path: Path) -> None:
    found = two_ranks()
    write_profile(tmp_path / "old.json", found)
    assert read_profile(tmp_path / "old.json") == found
    content = json.loads((tmp_path / "old.json").read_text())
    assert content["verdict"]["cause"] == "COMPUTE"
    assert content["what_if"][0]["what"] == "as it is"
    with pytest.raises(ConfigError, match="cannot be written"):
        write_profile(tmp_path / "nowhere" / "old.json", found)
    with pytest.raises(ConfigError, match="name another file with --html"):
        write_page(tmp_path / "nowhere" / "page.html", found)


def test_a_regression_is_a_rate_that_fell_by_more_than_the_tolerance() -> None:
    old = measured()
    slower = measured([rank_measured(parts=PARTS | {"forward": PARTS["forward"] + 0.01})])  # 80 to 90 ms
    for tolerance, is_worse in ((0.1, True), (0.12, False)):
        rows = {row.what: row for row in compared(old, slower, tolerance=tolerance)}
        assert rows["step on a constant batch"].is_regression is is_worse
        assert rows["step on a constant batch"].change == pytest.approx(80 / 90 - 1)
        assert not rows["loader by itself"].is_regression
    assert not any(row.is_regression for row in compared(slower, old, tolerance=0.0)), "faster is fine"
    worse_loader = measured([rank_measured(rates=RATES | {"loader": 700.0})])
    assert [row.what for row in compared(old, worse_loader, tolerance=0.5) if row.is_regression] == ["loader by itself"]


def test_profiles_of_different_things_are_not_compared() -> None:
    with pytest.raises(ConfigError, match="batch_size 10 and 20, precision bf16 and fp32; profile with the settings"):
        compared(measured(), measured(subject={"batch_size": 20, "precision": "fp32"}), tolerance=0.1)


def test_another_machine_is_said() -> None:
    found = measured()
    other = replace(found, environment=replace(found.environment, gpu="another GPU"))
    assert other_hardware(found, found) == []
    assert other_hardware(found, other) == ["gpu: a GPU then, another GPU now"]


@pytest.mark.parametrize(("text", "share"), [("10%", 0.1), ("0.1", 0.1), ("7.5%", 0.075), ("0", 0.0), (".25", 0.25)])
def test_a_tolerance_is_a_share(text: str, share: float) -> None:
    assert tolerance_of(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "ten", "-1%", "100%", "1.5", "10 percent"])
def test_what_is_no_tolerance_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a share as in 10%"):
        tolerance_of(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "no profile of this version"),
        ("[]", "expected the schema"),
        ('{"schema": "cxr-profile/0"}', "expected the schema"),
        ('{"schema": "cxr-profile/1", "measurements": {"more": 1}}', "no profile of this version"),
        ('{"schema": "cxr-profile/1", "measurements": {}}', "no profile of this version"),
        ('{"schema": "cxr-profile/1", "measurements": 3}', "no profile of this version"),
    ],
)
def test_what_is_no_profile_is_refused(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message) as error:
        read_profile(path)
    assert "make one with `cxr-train profile --json FILE`" in str(error.value)


@pytest.mark.parametrize("longest_s", [0.00999, 0.0123, 0.05, 0.0799, 0.1, 0.2, 0.3, 0.488, 1.0, 4.45, 123.0])
def test_the_time_axis_has_a_few_round_numbers(longest_s: float) -> None:
    at_s = ticks(longest_s)
    assert 4 <= len(at_s) <= 9
    assert at_s[0] == 0
    assert 0.6 * longest_s < at_s[-1] < longest_s
    assert f"{at_s[1]:e}"[0] in "125"
    assert at_s[1] == pytest.approx(float(f"{at_s[1]:.0e}"), rel=1e-9)


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (0.01234, "0.0123"),
        (99.94, "99.9"),
        (101.2, "101"),
        (1295.4, "1,295"),
        (11603.0, "11,600"),
        (2316573, "2,320,000"),
    ],
)
def test_rates_are_shown_with_the_digits_that_mean_something(rate: float, words: str) -> None:
    assert shown(rate) == words
