"""Decoding every image of a `tar` pack: the last thing that can be wrong with one."""

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from pipeline.cores import usable_cores
from pipeline.pack import Pack
from pipeline.tar_index import TarIndex, read_tar_index

IMAGES_AHEAD = 256
"""Images that are waiting or being decoded; more would only cost memory."""


def image_problems(pack: Pack, on_decoded: Callable[[int, int], None]) -> list[str]:
    """Return a line for every image that does not decode to the pack's size and depth.

    `on_decoded` gets images decoded and images to decode. Nothing is to be done in formats whose bytes are pixels.

    Raises:
        PackError: an index is damaged.
    """
    if pack.format != "tar":
        return []
    index = read_tar_index(pack)
    present = [number for number, size in enumerate(index.num_bytes_N.tolist()) if size]
    files = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in index.files]
    problems = []
    try:
        with ThreadPoolExecutor(usable_cores()) as threads:  # Pillow decodes off the GIL
            waiting = iter(present)
            done = 0
            while numbers := list(islice(waiting, IMAGES_AHEAD)):
                found = threads.map(lambda number: _problem(pack, index, files, number), numbers)
                problems += [problem for problem in found if problem]
                done += len(numbers)
                on_decoded(done, len(present))
    finally:
        for file in files:
            os.close(file)
    return problems


def _problem(pack: Pack, index: TarIndex, files: list[int], sample_index: int) -> str:
    """Return what is wrong with one image, nothing if it is right."""
    number = int(index.shard_N[sample_index])
    content = os.pread(files[number], int(index.num_bytes_N[sample_index]), int(index.offset_N[sample_index]))
    where = f"{pack.shards[number].file}: sample_index {sample_index}"
    plugin = JpegImageFile if pack.encoding.image == "jpg" else PngImageFile
    try:
        with plugin(io.BytesIO(content)) as image:
            image.load()
            found = (image.height, image.width, image.mode)
    except Exception as error:  # noqa: BLE001 - a decoder raises what it likes on damaged bytes
        return f"{where}: does not decode ({error})"
    expected = (pack.height_px, pack.width_px, "L" if pack.spec.bits == 8 else "I;16")
    return "" if found == expected else f"{where}: decodes to {found}, expected {expected}"
