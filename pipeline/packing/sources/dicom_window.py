"""From the stored values of a DICOM image to gray: one rule.

1. Stored values are the `BitsStored` bits up to `HighBit`, signed or not.
2. Modality: the first item of the Modality LUT Sequence, or else Rescale Slope and Intercept, or else nothing.
3. Window: the first item of the VOI LUT Sequence; or else the first Window Center and Width, by the VOI LUT Function
   (LINEAR, LINEAR_EXACT or SIGMOID; DICOM PS3.3 C.11.2); or else, and where the width makes no sense, the lowest value
   becomes black and the highest white, values of Pixel Padding not counted.
4. MONOCHROME1 is inverted.

All of it is one table over the stored values, in double precision, rounded to nearest at the end.
"""

import numpy as np
from pydicom import Dataset

from pipeline.packing.rejection import Reason, Rejection
from pipeline.packing.sources.raster import top_of

TAGS = (
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "VOILUTFunction",
    "WindowCenter",
    "WindowWidth",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)


def windowed(dataset: Dataset, samples_HW: np.ndarray, bits: int) -> np.ndarray:
    """Return stored samples, (u)int8 or (u)int16 [H, W], as gray of full range: uint8 or uint16 [H, W] by `bits`.

    Raises:
        Rejection: a table or a scale that makes no sense.
    """
    stored_bits, is_signed = dataset.BitsStored, dataset.PixelRepresentation == 1
    unsigned_HW = samples_HW.astype(np.uint8 if samples_HW.dtype.itemsize == 1 else np.uint16)  # modulo 2**bits
    index_HW = (unsigned_HW >> (dataset.HighBit + 1 - stored_bits)) & ((1 << stored_bits) - 1)
    lowest = 0
    if is_signed:  # so that the index grows with the value
        index_HW ^= 1 << (stored_bits - 1)
        lowest = -(1 << (stored_bits - 1))
    stored_V = np.arange(1 << stored_bits, dtype=np.float64) + lowest
    values_V = modality(dataset, stored_V)
    shown_V = by_table(dataset, values_V)
    if shown_V is None:
        shown_V = by_window(dataset, values_V)
    if shown_V is None:
        shown_V = by_range(values_V, counted(dataset, index_HW, lowest))
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown_V = 1 - shown_V
    table_V = np.floor(shown_V * top_of(bits) + 0.5).astype(np.uint8 if bits == 8 else np.uint16)
    gray_HW: np.ndarray = np.take(table_V, index_HW)
    return gray_HW


def modality(dataset: Dataset, stored_V: np.ndarray) -> np.ndarray:
    """Return the modality's value for each stored value, float64 [V].

    Raises:
        Rejection: they are all the same, or no numbers.
    """
    sequence = dataset.get("ModalityLUTSequence")
    if sequence:
        return looked_up(sequence[0], stored_V)
    slope = float(dataset.get("RescaleSlope") or 1)
    intercept = float(dataset.get("RescaleIntercept") or 0)
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise Rejection(Reason.CORRUPT, f"DICOM with rescale slope {slope} and intercept {intercept}")
    return stored_V * slope + intercept


def by_table(dataset: Dataset, values_V: np.ndarray) -> np.ndarray | None:
    """Return what the VOI LUT shows for each value, float64 [V] in 0..1; None where there is none."""
    sequence = dataset.get("VOILUTSequence")
    if not sequence:
        return None
    top = top_of(int(sequence[0].LUTDescriptor[2]))
    return np.clip(looked_up(sequence[0], values_V) / top, 0, 1)


def by_window(dataset: Dataset, values_V: np.ndarray) -> np.ndarray | None:
    """Return what the first window shows for each value, float64 [V] in 0..1; None where there is none of use."""
    centre, width = first(dataset.get("WindowCenter")), first(dataset.get("WindowWidth"))
    function = dataset.get("VOILUTFunction") or "LINEAR"
    if centre is None or width is None or not (np.isfinite(centre) and np.isfinite(width)) or width <= 0:
        return None
    if function == "SIGMOID":
        shown_V = 1 / (1 + np.exp(np.clip(-4 * (values_V - centre) / width, -700, 700)))
    elif function == "LINEAR_EXACT":
        shown_V = (values_V - centre) / width + 0.5
    elif width > 1:
        shown_V = (values_V - (centre - 0.5)) / (width - 1) + 0.5
    else:  # a step: black up to centre - 0.5, white above
        shown_V = np.where(values_V > centre - 0.5, 1.0, 0.0)
    clipped_V: np.ndarray = np.clip(shown_V, 0.0, 1.0)
    return clipped_V


def by_range(values_V: np.ndarray, index_n: np.ndarray) -> np.ndarray:
    """Return what is shown, float64 [V] in 0..1, where the values at `index_n`, those of the image, are its range."""
    ends = values_V[[int(index_n.min()), int(index_n.max())]]
    if not np.all(np.diff(values_V) >= 0) and not np.all(np.diff(values_V) <= 0):
        ends = values_V[np.unique(index_n)]  # a table that goes up and down
    low, high = ends.min(), ends.max()
    shown_V: np.ndarray = np.clip((values_V - low) / (high - low if high > low else 1), 0.0, 1.0)
    return shown_V


def counted(dataset: Dataset, index_HW: np.ndarray, lowest: int) -> np.ndarray:
    """Return the indexes of the image that are no padding, [n]; all where nothing else is there."""
    padding = dataset.get("PixelPaddingValue")
    if not isinstance(padding, int):
        return index_HW.reshape(-1)
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((padding, limit if isinstance(limit, int) else padding))
    index_n = index_HW[(index_HW < low - lowest) | (index_HW > high - lowest)]
    return index_n if index_n.size else index_HW.reshape(-1)


def looked_up(item: Dataset, values_V: np.ndarray) -> np.ndarray:
    """Return each value through the table of a LUT sequence's item, float64 [V]; beyond its ends it goes on flat.

    Raises:
        Rejection: the table is shorter than it says, or of no depth.
    """
    num_entries, begin, depth = (int(number) for number in item.LUTDescriptor)
    num_entries = num_entries or 65_536
    data = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * num_entries else np.uint16)
    table = np.atleast_1d(np.asarray(data, np.float64))
    if len(table) < num_entries or not 1 <= depth <= 16:
        raise Rejection(Reason.CORRUPT, f"a DICOM table of {len(table)} entries that should have {num_entries}")
    entries_V: np.ndarray = table[np.clip(np.rint(values_V).astype(np.int64) - begin, 0, num_entries - 1)]
    return entries_V


def first(value: object) -> float | None:
    """Return the first of the numbers of an element; None where it has none."""
    if value is None or value == "":
        return None
    try:
        number = value[0]  # type: ignore[index]
    except TypeError:
        number = value
    except IndexError:
        return None
    return float(number)
