"""Fractions from texts: pinned, because a manifest built again must put patients where they were; and fair."""

from math import sqrt
from zlib import crc32

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.fraction import FRACTION_VERSION, NUM_HASHES, fraction_of, mix, seeded
from manifests.splits import patient_fractions

FloatArray = npt.NDArray[np.float64]

BITS = 32
NUM = 100_000
IDS = {
    "numbers": [f"nih:{number}" for number in range(NUM)],
    "zero-padded": [f"chexpert:patient{number:05d}" for number in range(NUM)],
    "every tenth": [f"mimic:p{10_000_000 + 10 * number}" for number in range(NUM)],
    "long": [f"padchest:{number * 2_654_435_761 % 2**61}{number:09d}" for number in range(NUM)],
}


def fractions(texts: list[str], seed: int) -> FloatArray:
    return patient_fractions(pl.Series(texts), seed).to_numpy()


def test_the_numbers_never_change() -> None:
    assert FRACTION_VERSION == 1
    assert fraction_of("nih:1") == 0.7138910673093051
    assert fraction_of("chexpert:patient00001", seed=7) == 0.4419487079139799
    assert fraction_of("", seed=-1) == 0.4093779572285712


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.integers(-(2**70), 2**70))
def test_a_series_has_the_numbers_of_its_texts(texts: list[str], seed: int) -> None:
    found = patient_fractions(pl.Series(texts, dtype=pl.String), seed)
    assert found.to_list() == [fraction_of(text, seed) for text in texts]
    assert all(0 <= fraction < 1 for fraction in found)


@given(st.integers(0, NUM_HASHES - 1))
def test_mixing_loses_nothing(number: int) -> None:
    assert unmix(mix(number)) == number


def unmix(number: int) -> int:
    """Invert `mix`: its steps backwards, each undone."""
    number ^= number >> 16
    number = number * pow(0x846CA68B, -1, NUM_HASHES) % NUM_HASHES
    number ^= number >> 15 ^ number >> 30
    number = number * pow(0x7FEB352D, -1, NUM_HASHES) % NUM_HASHES
    return number ^ number >> 16


@pytest.mark.parametrize("seed", [0, 1, 2, 12345])
@pytest.mark.parametrize("kind", IDS)
def test_fractions_are_uniform_and_neighbours_are_independent(kind: str, seed: int) -> None:
    found = fractions(IDS[kind], seed)
    ranks = (np.arange(NUM) + 0.5) / NUM
    assert np.abs(np.sort(found) - ranks).max() < 1.95 / sqrt(NUM)  # Kolmogorov-Smirnov, p = 0.001
    for lag in (1, 2, 10, 100):
        assert abs(np.corrcoef(found[:-lag], found[lag:])[0, 1]) < 4 / sqrt(NUM)
    assert chi_square_z(found[:-1], found[1:]) < 4


@pytest.mark.parametrize("seeds", [(0, 1), (1, 2), (0, 10), (3, -3), (12, 21)])
@pytest.mark.parametrize("kind", IDS)
def test_two_seeds_draw_independently(kind: str, seeds: tuple[int, int]) -> None:
    first, second = (fractions(IDS[kind], seed) for seed in seeds)
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / sqrt(NUM)
    assert chi_square_z(first, second) < 4


def chi_square_z(first: FloatArray, second: FloatArray, bins: int = 20) -> float:
    """Return by how many standard deviations pairs are less even over a grid than independent ones."""
    counts = np.histogram2d(first, second, bins, [[0, 1], [0, 1]])[0]
    expected = len(first) / bins**2
    freedom = bins**2 - 1
    return float((((counts - expected) ** 2).sum() / expected - freedom) / sqrt(2 * freedom))


def test_each_bit_of_a_checksum_moves_each_bit_of_its_hash_half_of_the_time() -> None:
    checksums = pl.Series([crc32(text.encode()) for text in IDS["zero-padded"]], dtype=pl.UInt64)
    hashes = seeded(checksums, 0).to_numpy()
    for bit in range(BITS):
        moved = hashes ^ seeded(checksums ^ 2**bit, 0).to_numpy()
        shares = [float((moved >> np.uint64(place) & np.uint64(1)).mean()) for place in range(BITS)]
        assert shares == pytest.approx([0.5] * BITS, abs=0.02)
