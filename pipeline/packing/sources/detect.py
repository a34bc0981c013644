"""Which format a file is of, by its first bytes."""

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.image_spec import ImageSpec
from pipeline.packing.rejection import Reason, Rejection
from pipeline.packing.sources import jpeg, jpeg2000, png, tiff
from pipeline.packing.sources.raster import Raster

HEAD_BYTES = 132
"""What must be there to tell; a DICOM file begins with 128 bytes of anything."""


def decode_dicom(content: bytes, spec: ImageSpec) -> Raster:
    """Return a DICOM image as gray; pydicom is imported when the first one comes.

    Raises:
        Rejection: see `sources.dicom.decode`; pydicom is not installed.
    """
    try:
        from pipeline.packing.sources import dicom
    except ImportError as error:
        raise Rejection(Reason.UNSUPPORTED, 'DICOM; install pydicom: pip install "cxr-nvum[dicom]"') from error
    return dicom.decode(content, spec)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A format that images are read from."""

    name: str
    signatures: tuple[bytes, ...]
    """What its files begin with..."""

    offset: int = 0
    """... so many bytes after their beginning."""

    decode: Callable[[bytes, ImageSpec], Raster]
    """Bytes of a file -> its pixels; raises Rejection."""

    check_head: Callable[[bytes], object] = lambda head: None
    """Raises Rejection where the first `HEAD_BYTES` of a file show that the rest need not be read."""

    def fits(self, head: bytes) -> bool:
        """Tell whether a file that begins with `head` is of this format."""
        return head[self.offset :].startswith(self.signatures)


SOURCES = (
    Source(name="PNG", signatures=(png.SIGNATURE,), decode=png.decode, check_head=png.read_header),
    Source(name="JPEG", signatures=(jpeg.SIGNATURE,), decode=jpeg.decode),
    Source(name="JPEG 2000", signatures=jpeg2000.SIGNATURES, decode=jpeg2000.decode),
    Source(name="DICOM", signatures=(b"DICM",), offset=128, decode=decode_dicom),
    Source(name="TIFF", signatures=tiff.SIGNATURES, decode=tiff.decode),
)
"""In the order they are tried; DICOM before TIFF, since what stands before its magic may be the beginning of a TIFF."""


def source_of(content: bytes) -> Source:
    """Return the format of a file that begins with `content`.

    Raises:
        Rejection: empty, or of no format that is known.
    """
    if not content:
        raise Rejection(Reason.EMPTY_FILE, "0 bytes")
    for source in SOURCES:
        if source.fits(content[:HEAD_BYTES]):
            return source
    names = ", ".join(source.name for source in SOURCES)
    raise Rejection(Reason.NOT_AN_IMAGE, f"none of {names}; begins with {content[:16]!r}")
