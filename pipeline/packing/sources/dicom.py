"""DICOM (extra `dicom`): one frame, gray of up to 16 bits or 8-bit colour; what gray means is in `dicom_window.py`.

Only the elements that decide about pixels are read. The sizes that a compressed frame states itself are compared with
the dataset's before a decoder sees it, and each transfer syntax has one decoder, named here: never the first that is
installed.
"""

import importlib.util
import io
import warnings

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from pipeline.image_spec import ImageSpec
from pipeline.packing.rejection import Reason, Rejection
from pipeline.packing.sources import guarded, jpeg, jpeg2000, pillow
from pipeline.packing.sources.dicom_window import TAGS as WINDOW_TAGS
from pipeline.packing.sources.dicom_window import windowed
from pipeline.packing.sources.limits import check_size
from pipeline.packing.sources.raster import Raster

TAGS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
    *WINDOW_TAGS,
)
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
GRAY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
HEAD_BYTES = 4096
"""The transfer syntax stands in the first few hundred bytes."""

IN_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit)
IN_JPEG_2000 = (JPEG2000Lossless, JPEG2000, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL)
BY_GDCM = (JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless)


def decode(content: bytes, spec: ImageSpec) -> Raster:
    """Return a DICOM image as gray at the depth of `spec`, windowed and, MONOCHROME1, inverted.

    Raises:
        Rejection: damaged, cut short, without an image or with several, of a kind that is not supported.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about values that break a rule of the standard; most files have some
            dataset = read(content)
            samples = decoded(dataset, content)
            if dataset.SamplesPerPixel == 1:
                return Raster.whole(windowed(dataset, samples, spec.bits))
            return Raster.whole(pillow.gray(Image.fromarray(np.ascontiguousarray(samples))))
    except (Rejection, MemoryError):
        raise
    except Exception as error:
        # pydicom raises what it likes over a damaged file: EOFError, KeyError, AttributeError, struct.error, ...
        raise Rejection.of_damage(error) from error


def read(content: bytes) -> Dataset:
    """Return the elements of a DICOM file that decide about its pixels, the kind and the size accepted.

    Raises:
        Rejection: no image, several, too large, or of a kind that is not supported.
        Exception: whatever pydicom raises over a damaged file.
    """
    if DeflatedExplicitVRLittleEndian.encode() in content[:HEAD_BYTES]:
        raise Rejection(Reason.UNSUPPORTED, "DICOM whose dataset is deflated as a whole")  # a bomb, or nothing we met
    dataset = dcmread(io.BytesIO(content), specific_tags=list(TAGS))
    if "Rows" not in dataset or "Columns" not in dataset:
        raise Rejection(Reason.NOT_AN_IMAGE, "DICOM without an image")
    check_size(dataset.Columns, dataset.Rows)
    if "PixelData" not in dataset:
        raise Rejection(Reason.CORRUPT, "DICOM without pixel data")
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise Rejection(Reason.ANIMATED, f"DICOM of {dataset.NumberOfFrames} frames")
    kind = (dataset.PhotometricInterpretation, dataset.SamplesPerPixel)
    gray, colour = kind in {(name, 1) for name in GRAY}, kind in {(name, 3) for name in COLOUR}
    if not gray and not colour:
        raise Rejection(Reason.UNSUPPORTED, f"DICOM of {kind[1]} samples {kind[0]}")
    if dataset.BitsAllocated not in ((8, 16) if gray else (8,)):
        raise Rejection(Reason.UNSUPPORTED, f"DICOM of {dataset.BitsAllocated} bits {kind[0]}")
    if not 0 < dataset.BitsStored <= dataset.HighBit + 1 <= dataset.BitsAllocated:
        raise Rejection(Reason.CORRUPT, f"DICOM with bits {dataset.HighBit} to {dataset.HighBit - dataset.BitsStored}")
    return dataset


def decoded(dataset: Dataset, content: bytes) -> np.ndarray:
    """Return the stored samples, uint8, uint16 or int16 [H, W], or RGB uint8 [H, W, 3].

    Raises:
        Rejection: damaged, cut short, or compressed in a way that nothing here reads.
        Exception: whatever pydicom raises over a damaged file.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    num_bytes = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated // 8
    if syntax in NATIVE:
        is_halved = dataset.PhotometricInterpretation == "YBR_FULL_422"
        if len(dataset.PixelData) < (num_bytes * 2 // 3 if is_halved else num_bytes):
            raise Rejection(Reason.CORRUPT, "the pixels of the DICOM file are cut short")
        return pixel_array(dataset, correct_unused_bits=False)  # they are cut off later, by the high bit
    if syntax not in (*IN_JPEG, *IN_JPEG_2000, *BY_GDCM, RLELossless):
        raise Rejection(Reason.UNSUPPORTED, f"DICOM of transfer syntax {syntax.name}")
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    if syntax == RLELossless:
        if len(frame) > 2 * num_bytes + HEAD_BYTES:
            raise Rejection(Reason.CORRUPT, f"{len(frame):,} bytes of run lengths for {num_bytes:,} bytes of pixels")
        return pixel_array(dataset, decoding_plugin="pydicom", correct_unused_bits=False)
    check_frame(dataset, frame)
    if syntax not in BY_GDCM:
        return pixel_array(dataset, decoding_plugin="pillow")
    if importlib.util.find_spec("gdcm") is None:
        raise Rejection(Reason.UNSUPPORTED, f'DICOM of {syntax.name}; install GDCM: pip install "cxr-nvum[dicom]"')
    return guarded.decode(content)


def check_frame(dataset: Dataset, frame: bytes) -> None:
    """Return if a compressed frame is whole and of the size that the dataset says.

    Raises:
        Rejection: it is not.
    """
    if dataset.file_meta.TransferSyntaxUID in IN_JPEG_2000:
        codestream = jpeg2000.codestream_of(frame)
        jpeg2000_frame = jpeg2000.read_frame(codestream)
        width, height = jpeg2000_frame.width, jpeg2000_frame.height
        jpeg2000.check_whole(codestream)
    else:
        jpeg_frame = jpeg.read_frame(frame)
        width, height = jpeg_frame.width, jpeg_frame.height
        if dataset.file_meta.TransferSyntaxUID in IN_JPEG and jpeg_frame.precision != 8:
            raise Rejection(Reason.UNSUPPORTED, f"DICOM of JPEG with {jpeg_frame.precision} bits")
        jpeg.check_scans(jpeg_frame, frame)
    if (width, height) != (dataset.Columns, dataset.Rows):
        raise Rejection(
            Reason.CORRUPT, f"a frame of {width} x {height} px in a DICOM image of {dataset.Columns} x {dataset.Rows}"
        )
