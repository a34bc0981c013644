"""A number in [0, 1) from a text: what draws patients and smooths labels, the same on every machine."""

from typing import Any, Protocol, Self, TypeVar
from zlib import crc32

FRACTION_VERSION = 1
"""Changes whenever a text would get another number; a manifest's metadata has it, as its splits depend on it."""

NUM_HASHES = 2**32
"""A hash is one of 0 to NUM_HASHES - 1."""


class WholeNumber(Protocol):
    """What is done with hashes: an int can, and so can a column of UInt64 (a Series of Polars, for one)."""

    def __xor__(self, other: Any, /) -> Self: ...
    def __and__(self, other: Any, /) -> Self: ...
    def __mul__(self, other: Any, /) -> Self: ...
    def __floordiv__(self, other: Any, /) -> Self: ...


Hash = TypeVar("Hash", bound=WholeNumber)


def fraction_of(text: str, seed: int = 0) -> float:
    """Return a number in [0, 1), uniform over texts, that depends on `text` and `seed` alone."""
    return seeded(crc32(text.encode()), seed) / NUM_HASHES


def seeded(checksum: Hash, seed: int) -> Hash:
    """Return the hash, of a text with this CRC-32: one as an int, or many as a column of UInt64.

    A checksum is fast, being C of the standard library, but linear: texts that differ in a digit have related ones, and
    so has a text under two seeds. Mixed, they have not.
    """
    return mix(mix(checksum) ^ crc32(str(seed).encode()))


def mix(number: Hash) -> Hash:
    """Return a number of 32 bits of which each bit depends on every bit of `number`; no two numbers give the same.

    Source: the function "lowbias32" of Chris Wellons' Hash Prospector (public domain). No product reaches 2 ** 64, so
    that nothing rests on how a library treats an overflow.
    """
    number = number ^ (number // 2**16)
    number = number * 0x7FEB352D & (NUM_HASHES - 1)
    number = number ^ (number // 2**15)
    number = number * 0x846CA68B & (NUM_HASHES - 1)
    return number ^ (number // 2**16)
