"""DICOM files for tests: one gray or RGB frame, uncompressed or compressed by GDCM, Pillow or pydicom."""

import io
from pathlib import Path

import numpy as np
import pydicom.uid as uid
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate

GDCM_NAMES = {
    uid.JPEGLossless: "JPEGLosslessProcess14",
    uid.JPEGLosslessSV1: "JPEGLosslessProcess14_1",
    uid.JPEGLSLossless: "JPEGLSLossless",
    uid.RLELossless: "RLELossless",
}


def make_dataset(pixels: np.ndarray, *, bits: int | None = None, **elements: object) -> Dataset:
    """Return a dataset of (u)int8 or (u)int16 [H, W] or uint8 [H, W, 3]; `elements` are set or, where None, removed."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = uid.UID("1.2.3.4")
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.DigitalXRayImageStorageForPresentation, "1.2.3.4"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    is_colour = pixels.ndim == 3
    dataset.SamplesPerPixel = 3 if is_colour else 1
    dataset.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
    if is_colour:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated == 16 else "OB"
    for name, value in elements.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def to_bytes(dataset: Dataset, syntax: uid.UID | None = None) -> bytes:
    """Return the file of a dataset, which is as it is already encoded in `syntax`."""
    if syntax is not None:
        dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def encapsulated(dataset: Dataset, frame: bytes, syntax: uid.UID) -> bytes:
    """Return the file of a dataset with a compressed frame."""
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    return to_bytes(dataset, syntax)


def compressed_by_gdcm(dataset: Dataset, syntax: uid.UID, folder: Path) -> bytes:
    """Return the file of a dataset that GDCM compresses; it works on files in `folder` only."""
    import gdcm

    (folder / "plain.dcm").write_bytes(to_bytes(dataset))
    reader = gdcm.ImageReader()
    reader.SetFileName(str(folder / "plain.dcm"))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, GDCM_NAMES[syntax])))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(folder / "compressed.dcm"))
    assert writer.Write()
    return (folder / "compressed.dcm").read_bytes()
