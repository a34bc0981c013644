"""Checksums of large files, which name their algorithm: `xxh3_128:99aa06d3014798d86001c324468d497f`.

They are to find what a disk, a network or a program has changed, not what somebody has changed on purpose: XXH3 of 128
bits does that at the speed of memory. Packs of schema `cxr-pack/2` have SHA-256, which is compared as it always was.
"""

import hashlib
from pathlib import Path
from typing import Protocol

import xxhash

XXH3_128, SHA256 = "xxh3_128", "sha256"
ALGORITHM = XXH3_128
"""What new checksums are made by. `xxhsum -H128 FILE` prints the same digits."""

READ_BYTES = 1 << 20

SHOWN = 12
"""Digits of a checksum that messages show."""


class Digest(Protocol):
    """What hashlib and xxhash make."""

    def update(self, content: bytes | bytearray | memoryview, /) -> None:
        """Take the next bytes."""

    def hexdigest(self) -> str:
        """Return the digits for what was taken so far."""


class FileChecksum:
    """Takes the bytes of a file in order; `str()` of it is the checksum, its algorithm's name included."""

    def __init__(self, algorithm: str = ALGORITHM) -> None:
        """Begin with no bytes.

        Raises:
            ValueError: no such algorithm is known here.
        """
        if algorithm not in (XXH3_128, SHA256):
            raise ValueError(f"checksum by {algorithm!r}, known are {XXH3_128} and {SHA256}")
        self.algorithm = algorithm
        digest: Digest = xxhash.xxh3_128() if algorithm == XXH3_128 else hashlib.sha256()
        self.update = digest.update
        self._digest = digest

    @classmethod
    def like(cls, checksum: str) -> "FileChecksum":
        """Begin one by the algorithm of a checksum, to be compared with it.

        Raises:
            ValueError: no such algorithm is known here.
        """
        return cls(checksum.partition(":")[0])

    def __str__(self) -> str:
        return f"{self.algorithm}:{self._digest.hexdigest()}"


def file_checksum(path: Path, *, like: str) -> str:
    """Return the checksum of a file by the algorithm of another one.

    Raises:
        OSError: it cannot be read.
        ValueError: no such algorithm is known here.
    """
    checksum = FileChecksum.like(like)
    with path.open("rb") as file:
        while content := file.read(READ_BYTES):
            checksum.update(content)
    return str(checksum)


def shown(checksum: str) -> str:
    """Return the first digits of a checksum, for people."""
    return checksum.rpartition(":")[2][:SHOWN]
