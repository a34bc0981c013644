"""The header of a raw shard, checked before a byte of it is taken for a pixel."""

import numpy as np

from pipeline.errors import PackError
from pipeline.loaders.damage import cut_short, repair
from pipeline.pack import Pack, Shard


def data_offset(pack: Pack, shard: Shard) -> int:
    """Return where the pixels of a raw shard begin, in bytes from the start of its .npy file.

    Raises:
        PackError: the file is missing or cut short, or it does not hold uint8 [num_samples, H, W] in C order.
    """
    path = pack.shard_path(shard)
    expected = (shard.num_samples, pack.height_px, pack.width_px)
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"version {version} of the .npy format, expected (1, 0)")
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
            offset = file.tell()
            num_bytes = file.seek(0, 2)
    except (OSError, ValueError) as error:
        raise PackError(f"{path}: not a raw shard ({error}); {repair(pack)}") from error
    if shape != expected or dtype != np.uint8 or fortran_order:
        raise PackError(f"{path}: holds {dtype} {shape}, pack.json says uint8 {expected}; {repair(pack)}")
    if num_bytes < offset + pixel_bytes(pack, shard):
        raise cut_short(path, pack, shard, num_bytes)
    return offset


def pixel_bytes(pack: Pack, shard: Shard) -> int:
    """Return how many bytes of pixels a raw shard holds."""
    return shard.num_samples * pack.spec.num_pixels
