"""A number in [0, 1) from a text: what draws patients and smooths labels, the same on every machine."""

from collections.abc import Iterable, Iterator
from hashlib import blake2b

DIGEST_BYTES = 8
UNUSED_BITS = 8 * DIGEST_BYTES - 53
"""A float holds 53 bits; the others are not used, so that 1.0 is never reached."""


def fraction_of(key: str) -> float:
    """Return a number in [0, 1), uniform over keys, that depends on `key` alone."""
    digest = blake2b(key.encode(), digest_size=DIGEST_BYTES).digest()
    return (int.from_bytes(digest, "big") >> UNUSED_BITS) / 2**53


def digests_of(prefix: str, keys: Iterable[str]) -> Iterator[bytes]:
    """Yield for each key what is less than `fraction_limit(f)` just where ``fraction_of(prefix + key) < f``."""
    size = DIGEST_BYTES
    for key in keys:
        yield blake2b((prefix + key).encode(), digest_size=size).digest()


def fraction_limit(fraction: float) -> bytes:
    """Return the first digest, as bytes, whose number is not below `fraction`, 0 to 1; see `digests_of`."""
    numerator = -int(-fraction * 2**53 // 1)  # rounded up; exact, because 2**53 is a power of two
    return (numerator << UNUSED_BITS).to_bytes(DIGEST_BYTES + 1, "big")[1:] if numerator < 2**53 else AFTER_ALL


AFTER_ALL = b"\xff" * (DIGEST_BYTES + 1)
"""Greater than every digest."""
