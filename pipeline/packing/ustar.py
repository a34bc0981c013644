"""Members of a USTAR archive: every field that could differ between machines is zero."""

from pipeline.tar_shard import BLOCK_BYTES, padded


def member(name: str, content: bytes) -> tuple[bytes, bytes, bytes]:
    """Return header, content and padding of a regular file in a USTAR archive."""
    return header(name, len(content)), content, bytes(padded(len(content)) - len(content))


def header(name: str, num_bytes: int) -> bytes:
    """Return the USTAR header of a regular file, rw-r--r--, of owner 0 and time 0."""
    mode, owner, group, time_s = 0o644, 0, 0, 0
    numbers = f"{mode:07o}\0{owner:07o}\0{group:07o}\0{num_bytes:011o}\0{time_s:011o}\0"
    begin = name.encode("ascii").ljust(100, b"\0") + numbers.encode()
    end = b"0".ljust(101, b"\0") + b"ustar\x0000"
    checksum = sum(begin) + 8 * ord(" ") + sum(end)
    return (begin + f"{checksum:06o}\0 ".encode() + end).ljust(BLOCK_BYTES, b"\0")
