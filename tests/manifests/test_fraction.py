"""Fractions from texts: pinned, because a manifest built again must put patients where they were."""

from hypothesis import given
from hypothesis import strategies as st

from manifests.fraction import digests_of, fraction_limit, fraction_of


def test_the_numbers_never_change() -> None:
    assert fraction_of("0:nih:1") == 0.34575126931736466
    assert fraction_of("0:chexpert:patient00001") == 0.30231061821273975
    assert fraction_of("") == 0.8931675160897388


@given(st.text(), st.text(), st.floats(0, 1))
def test_a_digest_below_the_limit_is_a_fraction_below_the_number(prefix: str, key: str, fraction: float) -> None:
    (digest,) = digests_of(prefix, [key])
    assert (digest < fraction_limit(fraction)) == (fraction_of(prefix + key) < fraction)


@given(st.text())
def test_the_limit_of_a_fraction_is_its_own_digest_or_an_earlier_one(key: str) -> None:
    (digest,) = digests_of("", [key])
    assert not digest < fraction_limit(fraction_of(key))
    assert not digest < fraction_limit(0)
    assert digest < fraction_limit(1)
