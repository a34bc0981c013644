"""Pillow's decoders, called by name, never through `Image.open`.

No global limit of Pillow decides, no other format is guessed at, and nothing is allocated before the size in the header
was accepted.
"""

import io
import warnings
from typing import TypeVar

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from pipeline.packing.rejection import Rejection
from pipeline.packing.sources.limits import check_size

Plugin = TypeVar("Plugin", bound=ImageFile)


def opened(plugin: type[Plugin], content: bytes) -> Plugin:
    """Return the image with its header read and its size accepted, nothing decoded yet.

    Raises:
        Rejection: no such header, or a size that is not accepted.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata; what matters raises
            image = plugin(io.BytesIO(content))
    except MemoryError:
        raise
    except Exception as error:
        # A damaged file makes a decoder raise what it likes: OSError, SyntaxError, ValueError, struct.error, ...
        raise Rejection.of_damage(error) from error
    check_size(*image.size)
    return image


def load(image: ImageFile) -> None:
    """Decode an opened image.

    Raises:
        Rejection: damaged or cut short.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
    except MemoryError:
        raise
    except Exception as error:
        raise Rejection.of_damage(error) from error


def gray(image: Image.Image) -> np.ndarray:
    """Return an 8-bit image as gray, uint8 [H, W]: ITU-R 601 luma of colours, alpha and transparency ignored."""
    image.info.pop("transparency", None)  # else Pillow warns, or maps the transparent colour
    return np.asarray(image if image.mode == "L" else image.convert("L"))
