"""The layout of a `beton` pack, a file that FFCV's Loader opens: all of it follows from a few numbers.

::

    offset            what                                                                    FFCV's name
    0                 version 2, number of fields, bytes of a page, N, where the table begins  HeaderType
    24                a description of each field: image, sample_index, targets if any         FieldDescType
    24 + 1041 F       N rows, one a sample: where its image lies, its sample_index, ...        metadata
    the next page     images, each followed by its targets; none crosses the end of a page
    after the pages   (sample, offset, bytes) of every image and of all targets                alloc table

A gray image is an `NDArrayField(uint8, (H, W))`, a colour image an `RGBImageField` in raw mode, sample_index an
`IntField`, targets an `NDArrayField(float32, (C,))`. Every image takes the same bytes, so all offsets are known before
the first image is: shards can be written apart and laid end to end. Numbers are little endian. From FFCV 1.0.2:
`ffcv/types.py`, `writer.py`, `memory_allocator.py`, `fields/`.
"""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.encoding import Encoding
from pipeline.errors import PackError
from pipeline.image_spec import ImageSpec

VERSION = 2
MIN_PAGE_BYTES = 1 << 21
"""FFCV's writer takes no smaller page."""

MAX_PAGE_BYTES = 1 << 31
"""The header has 32 bits for it."""

MAX_WASTE = 1 / 8
"""Share of a page that may stay empty because the next sample does not fit."""

MAX_TARGETS = 1 << 16
"""More numbers than any label space has: a header that says more is damaged."""

IMAGE, SAMPLE_INDEX, TARGETS = "image", "sample_index", "targets"
INT_FIELD, RGB_FIELD, ARRAY_FIELD = 1, 2, 4
RAW_MODE = 1

HEADER = np.dtype(
    [("version", "<u2"), ("num_fields", "<u2"), ("page_bytes", "<u4"), ("num_samples", "<u8"), ("table_begin", "<u8")]
)
FIELD = np.dtype([("type", "<u1"), ("name", "S16"), ("arguments", "V1024")])
RGB_ROW = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("begin", "<u8")])
ARRAY_ARGUMENTS = np.dtype([("shape", "<u8", 32), ("description_bytes", "<u8")])
ALLOCATION = np.dtype([("sample", "<u8"), ("begin", "<u8"), ("num_bytes", "<u8")])


@dataclass(frozen=True, kw_only=True)
class BetonLayout:
    """What a beton holds, and where."""

    num_samples: int
    """N, rejected ones included: their images are zeros."""

    height_px: int
    """Rows of every image."""

    width_px: int
    """Columns of every image."""

    num_channels: int = 1
    """1: gray; 3: RGB with three equal values."""

    num_targets: int = 0
    """C, numbers in the targets of a sample; 0: the field is not there."""

    @property
    def image_bytes(self) -> int:
        """Bytes of an image."""
        return self.height_px * self.width_px * self.num_channels

    @property
    def sample_bytes(self) -> int:
        """Bytes of an image and its targets."""
        return self.image_bytes + 4 * self.num_targets

    @cached_property
    def page_bytes(self) -> int:
        """Bytes of a page: the smallest power of two that whole samples fill but for `MAX_WASTE`."""
        page_bytes = MIN_PAGE_BYTES
        while page_bytes < MAX_PAGE_BYTES and (
            page_bytes < self.sample_bytes or page_bytes % self.sample_bytes > MAX_WASTE * page_bytes
        ):
            page_bytes *= 2
        return page_bytes

    @property
    def samples_per_page(self) -> int:
        """Samples that fit into a page."""
        return self.page_bytes // self.sample_bytes

    @property
    def rows_begin(self) -> int:
        """Where the rows begin."""
        return HEADER.itemsize + (2 + bool(self.num_targets)) * FIELD.itemsize

    @property
    def data_begin(self) -> int:
        """Where the first image begins."""
        rows_end = self.rows_begin + self.num_samples * self.row_type.itemsize
        return -(-rows_end // self.page_bytes) * self.page_bytes

    @property
    def table_begin(self) -> int:
        """Where the table begins: after the last page."""
        return self.data_begin + -(-self.num_samples // self.samples_per_page) * self.page_bytes

    @property
    def num_bytes(self) -> int:
        """Size of the file."""
        return self.table_begin + (1 + bool(self.num_targets)) * self.num_samples * ALLOCATION.itemsize

    @cached_property
    def row_type(self) -> np.dtype[np.void]:
        """What the file says of a sample."""
        image = (IMAGE, "<u8" if self.num_channels == 1 else RGB_ROW)
        targets = [(TARGETS, "<u8")] if self.num_targets else []
        return np.dtype([image, (SAMPLE_INDEX, "<i8"), *targets], align=True)

    def image_offset(self, sample_index: int) -> int:
        """Return where the image of a sample begins, in bytes from the start of the file."""
        page, place = divmod(sample_index, self.samples_per_page)
        return self.data_begin + page * self.page_bytes + place * self.sample_bytes

    def image_offsets(self) -> npt.NDArray[np.int64]:
        """Return where each image begins, int64 [N]."""
        sample_index_N = np.arange(self.num_samples, dtype=np.int64)
        page_N, place_N = np.divmod(sample_index_N, self.samples_per_page)
        offset_N: npt.NDArray[np.int64] = self.data_begin + page_N * self.page_bytes + place_N * self.sample_bytes
        return offset_N

    def head(self) -> bytes:
        """Return the bytes before the first image, without the zeros up to `data_begin`."""
        header = np.zeros((), HEADER)
        header["version"] = VERSION
        header["num_fields"] = 2 + bool(self.num_targets)
        header["page_bytes"] = self.page_bytes
        header["num_samples"] = self.num_samples
        header["table_begin"] = self.table_begin
        image = _array_field(IMAGE, "|u1", (self.height_px, self.width_px))
        if self.num_channels == 3:
            image = _field(RGB_FIELD, IMAGE)
        fields = image + _field(INT_FIELD, SAMPLE_INDEX)
        if self.num_targets:
            fields += _array_field(TARGETS, "<f4", (self.num_targets,))
        return header.tobytes() + fields + self._rows().tobytes()

    def table(self) -> bytes:
        """Return the bytes after the last page."""
        table = np.zeros((self.num_samples, 1 + bool(self.num_targets)), ALLOCATION)
        table["sample"] = np.arange(self.num_samples)[:, None]
        table["begin"][:, 0] = self.image_offsets()
        table["begin"][:, 1:] = self.image_offsets()[:, None] + self.image_bytes
        table["num_bytes"][:, 0] = self.image_bytes
        table["num_bytes"][:, 1:] = 4 * self.num_targets
        return table.tobytes()

    def _rows(self) -> npt.NDArray[np.void]:
        rows = np.zeros(self.num_samples, self.row_type)
        rows[SAMPLE_INDEX] = np.arange(self.num_samples)
        if self.num_channels == 1:
            rows[IMAGE] = self.image_offsets()
        else:
            rows[IMAGE]["mode"] = RAW_MODE
            rows[IMAGE]["width"], rows[IMAGE]["height"] = self.width_px, self.height_px
            rows[IMAGE]["begin"] = self.image_offsets()
        if self.num_targets:
            rows[TARGETS] = self.image_offsets() + self.image_bytes
        return rows


def read_beton(path: Path, spec: ImageSpec, encoding: Encoding, num_samples: int) -> BetonLayout:
    """Return the layout of the beton at `path`, which is to hold such images; the number of targets is read from it.

    Compared: its size, and every byte before the images and after them.

    Raises:
        PackError: it is missing or damaged, or holds something else.
    """
    layout = BetonLayout(
        num_samples=num_samples,
        height_px=spec.height_px,
        width_px=spec.width_px,
        num_channels=num_channels(encoding),
        num_targets=0,
    )
    try:
        if encoding.targets is not None:
            layout = replace(layout, num_targets=_read_num_targets(path))
        check_beton(path, layout)
    except (OSError, ValueError) as error:
        raise PackError(
            f"{path}: not the beton of this pack ({error}); run `cxr-prep verify {path.parent}`, then pack again"
        ) from error
    return layout


def check_beton(path: Path, layout: BetonLayout) -> None:
    """Return if the file at `path` has this layout: its size, and every byte before the images and after them.

    Raises:
        ValueError: it does not; the message says what was found.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        header = np.frombuffer(file.read(HEADER.itemsize).ljust(HEADER.itemsize, b"\0"), HEADER)[0]
        if header["version"] != VERSION:
            raise ValueError(f"version {header['version']} of the format, expected {VERSION}")
        if header["num_samples"] != layout.num_samples:
            raise ValueError(f"{header['num_samples']:,} samples, expected {layout.num_samples:,}")
        num_bytes = file.seek(0, 2)
        if num_bytes != layout.num_bytes:
            raise ValueError(f"{num_bytes:,} bytes, expected {layout.num_bytes:,}")
        for begin, expected, what in ((0, layout.head(), "head"), (layout.table_begin, layout.table(), "table")):
            file.seek(begin)
            if file.read(len(expected)) != expected:
                raise ValueError(f"its {what} is damaged, or of images of another size or kind")


def num_channels(encoding: Encoding) -> int:
    """Return 1 for gray, 3 for RGB."""
    return 3 if encoding.colour == "rgb" else 1


def _read_num_targets(path: Path) -> int:
    """Return how many targets a sample has by the description of the third field."""
    with path.open("rb") as file:
        file.seek(HEADER.itemsize + 2 * FIELD.itemsize)
        field = np.frombuffer(file.read(FIELD.itemsize).ljust(FIELD.itemsize, b"\0"), FIELD)[0]
    num_targets = int(
        np.frombuffer(field["arguments"].tobytes()[: ARRAY_ARGUMENTS.itemsize], ARRAY_ARGUMENTS)["shape"][0, 0]
    )
    if not 0 < num_targets <= MAX_TARGETS:
        raise ValueError(f"{num_targets:,} targets a sample, expected 1 to {MAX_TARGETS:,}")
    return num_targets


def _field(type_id: int, name: str, arguments: bytes = b"") -> bytes:
    """Return the description of a field."""
    return np.array((type_id, name.encode(), arguments.ljust(1024, b"\0")), FIELD).tobytes()


def _array_field(name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return the description of a field of arrays."""
    description = json.dumps([["", dtype]]).encode()
    arguments = np.zeros((), ARRAY_ARGUMENTS)
    arguments["shape"][: len(shape)] = shape
    arguments["description_bytes"] = len(description)
    return _field(ARRAY_FIELD, name, arguments.tobytes() + description)
