"""What is accepted before a decoder allocates anything."""

from pipeline.packing.rejection import Reason, Rejection

MAX_PIXELS = 100_000_000
"""Larger images are rejected; the largest radiographs, stitched long-leg films, have about 40 million."""

MAX_FILE_BYTES = 1 << 30
"""Larger files are rejected unread."""


def check_size(width: int, height: int) -> None:
    """Return if an image of this size is accepted.

    Raises:
        Rejection: nothing to see, or more than `MAX_PIXELS`.
    """
    if width <= 0 or height <= 0:
        raise Rejection(Reason.ZERO_SIZE, f"{width} x {height} px")
    if width * height > MAX_PIXELS:
        raise Rejection(Reason.TOO_LARGE, f"{width} x {height} px")
