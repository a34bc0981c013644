"""A number in [0, 1) from a text: what draws patients and smooths labels, the same on every machine."""

from hashlib import blake2b


def fraction_of(key: str) -> float:
    """Return a number in [0, 1), uniform over keys, that depends on `key` alone."""
    digest = blake2b(key.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # 53 bits: what a float holds, so that 1.0 is never reached
