"""The layout of a beton, how it is read without FFCV, and its checks. FFCV itself: test_ffcv.py."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.beton import ALLOCATION, MIN_PAGE_BYTES, BetonLayout, read_beton
from pipeline.encoding import Encoding
from pipeline.errors import PackError
from pipeline.image_spec import ImageSpec
from pipeline.pack import Pack
from pipeline.packing.beton import BetonFormat, BetonJoiner
from pipeline.packing.decoded import DecodedImage
from pipeline.packing.shard_format import ShardLayout
from tests.pack_writer import write_pack


def noise(num_images: int, height_px: int, width_px: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_images, height_px, width_px), dtype=np.uint8)


def targets(num_images: int, num_targets: int) -> np.ndarray:
    values_NC = np.random.default_rng(1).random((num_images, num_targets)).astype(np.float32)
    values_NC[1::2] = np.nan
    return values_NC


@dataclasses.dataclass(frozen=True)
class Case:
    """A pack to write."""

    num_images: int
    height_px: int
    width_px: int
    colour: Literal["gray", "rgb"] = "gray"
    num_targets: int = 0

    @property
    def layout(self) -> BetonLayout:
        return BetonLayout(
            num_samples=self.num_images,
            height_px=self.height_px,
            width_px=self.width_px,
            num_channels=1 if self.colour == "gray" else 3,
            num_targets=self.num_targets,
        )

    def write(self, folder: Path, rejected: tuple[int, ...] = ()) -> Pack:
        return write_pack(
            folder,
            noise(self.num_images, self.height_px, self.width_px),
            pack_format="beton",
            encoding=Encoding(colour=self.colour, targets="nih14" if self.num_targets else None),
            targets_NC=targets(self.num_images, self.num_targets) if self.num_targets else None,
            rejected=rejected,
        )


CASES = {
    "one image": Case(1, 3, 5),
    "pages that are full": Case(100, 256, 256),
    "pages with an empty end": Case(150, 300, 200),
    "colour": Case(130, 120, 111, colour="rgb"),
    "targets": Case(100, 250, 180, num_targets=14),
    "colour and targets": Case(70, 100, 100, colour="rgb", num_targets=3),
}


@pytest.mark.parametrize("name", CASES)
def test_a_beton_is_read_as_written(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    pack = case.write(tmp_path)
    layout = read_beton(tmp_path / "pack.beton", pack.spec, pack.encoding, case.num_images)
    assert layout.num_targets == case.num_targets
    content = np.fromfile(tmp_path / "pack.beton", np.uint8)
    offset_N = layout.image_offsets()
    images_NHW, targets_NC = noise(case.num_images, case.height_px, case.width_px), targets(case.num_images, 3)
    for index in range(case.num_images):
        assert offset_N[index] == layout.image_offset(index)
        stored = content[offset_N[index] :][: layout.sample_bytes]
        expected_HW = images_NHW[index].reshape(-1)
        np.testing.assert_array_equal(
            stored[: layout.image_bytes], expected_HW if case.colour == "gray" else np.repeat(expected_HW, 3)
        )
        if case.num_targets == 3:
            np.testing.assert_array_equal(stored[layout.image_bytes :].view("<f4"), targets_NC[index])


layouts = st.builds(
    BetonLayout,
    num_samples=st.integers(1, 5000),
    height_px=st.integers(1, 8192),
    width_px=st.integers(1, 8192),
    num_channels=st.sampled_from([1, 3]),
    num_targets=st.integers(0, 30),
)


@given(layouts)
def test_no_sample_crosses_a_page_and_none_overlaps(layout: BetonLayout) -> None:
    page_bytes = layout.page_bytes
    assert MIN_PAGE_BYTES <= page_bytes < 1 << 32
    assert page_bytes & (page_bytes - 1) == 0
    assert page_bytes % layout.sample_bytes <= page_bytes / 8
    offset_N = layout.image_offsets()
    assert offset_N[0] == layout.data_begin >= layout.rows_begin
    assert (np.diff(offset_N) >= layout.sample_bytes).all()
    assert (offset_N // page_bytes == (offset_N + layout.sample_bytes - 1) // page_bytes).all()
    assert layout.table_begin >= offset_N[-1] + layout.sample_bytes
    assert layout.data_begin % page_bytes == layout.table_begin % page_bytes == 0
    assert len(layout.head()) <= layout.data_begin
    assert layout.num_bytes == layout.table_begin + len(layout.table())


def test_rejected_images_are_zeros(tmp_path: Path) -> None:
    case = Case(80, 40, 30, num_targets=3)
    pack = case.write(tmp_path, rejected=(0, 64, 79))
    layout = read_beton(tmp_path / "pack.beton", pack.spec, pack.encoding, 80)
    content = np.fromfile(tmp_path / "pack.beton", np.uint8)
    for index in (0, 64, 79):
        begin = layout.image_offset(index)
        assert not content[begin : begin + layout.image_bytes].any()
        stored = content[begin + layout.image_bytes :][:12].view("<f4")
        np.testing.assert_array_equal(stored, targets(80, 3)[index])
    assert problems(pack) == []
    assert problems(dataclasses.replace(pack, rejected=(0, 1, 64, 79))) == ["sample_index 1 is rejected but has pixels"]


def problems(pack: Pack, num_targets: int = 3) -> list[str]:
    layout = ShardLayout(spec=pack.spec, encoding=pack.encoding, num_samples=pack.num_samples, num_targets=num_targets)
    return BetonFormat().problems(pack.folder / "pack.beton", layout, 0, pack.rejected)


def flip(offset: int) -> Callable[[bytearray], None]:
    def do(content: bytearray) -> None:
        content[offset] ^= 1

    return do


def cut(content: bytearray) -> None:
    del content[-1:]


ROW = 24 + 3 * 1041
TABLE = -ALLOCATION.itemsize * 2 * 80


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip(0), "version 3 of the format, expected 2"),
        (flip(2), "its head is damaged"),  # number of fields
        (flip(6), "its head is damaged"),  # page size
        (flip(8), "81 samples, expected 80"),
        (flip(16), "its head is damaged"),  # where the table begins
        (flip(24), "its head is damaged"),  # kind of a field
        (flip(26), "its head is damaged"),  # its name
        (flip(24 + 17), "its head is damaged"),  # its shape
        (flip(ROW), "its head is damaged"),  # where an image begins
        (flip(ROW + 8), "its head is damaged"),  # its sample_index
        (flip(TABLE), "its table is damaged"),
        (flip(-1), "its table is damaged"),
        (cut, r"[\d,]+ bytes, expected [\d,]+"),
        (bytearray.clear, "version 0 of the format, expected 2|0 targets a sample"),
    ],
)
def test_damage_is_found(tmp_path: Path, damage: Callable[[bytearray], None], message: str) -> None:
    pack = Case(80, 40, 30, num_targets=3).write(tmp_path)
    content = bytearray((tmp_path / "pack.beton").read_bytes())
    damage(content)
    (tmp_path / "pack.beton").write_bytes(content)
    with pytest.raises(PackError, match=rf"pack.beton: not the beton of this pack \({message}.*cxr-prep verify"):
        read_beton(tmp_path / "pack.beton", pack.spec, pack.encoding, 80)
    assert re.search(message.split("|")[0], problems(pack)[0])


def test_a_beton_of_something_else_is_refused(tmp_path: Path) -> None:
    pack = Case(80, 40, 30).write(tmp_path)
    path, spec, gray = tmp_path / "pack.beton", pack.spec, pack.encoding
    with pytest.raises(PackError, match="its head is damaged, or of images of another size or kind"):
        read_beton(path, ImageSpec(height_px=30, width_px=40), gray, 80)
    with pytest.raises(PackError, match="80 samples, expected 79"):
        read_beton(path, spec, gray, 79)
    with pytest.raises(PackError, match=r"its head is damaged|bytes, expected"):
        read_beton(path, spec, Encoding(colour="rgb"), 80)
    with pytest.raises(PackError, match="targets a sample"):
        read_beton(path, spec, Encoding(targets="nih14"), 80)
    with pytest.raises(PackError, match="No such file"):
        read_beton(tmp_path / "absent.beton", spec, gray, 80)


def test_a_part_that_was_cut_is_refused(tmp_path: Path) -> None:
    spec, encoding = ImageSpec.square(8), Encoding()
    parts = []
    for number, (first, num_samples) in enumerate([(0, 64), (64, 6)]):
        parts.append(tmp_path / f"{number}.part")
        layout = ShardLayout(spec=spec, encoding=encoding, num_samples=num_samples)
        with parts[-1].open("wb") as file:
            writer = BetonFormat().writer(file, layout, first)
            for index in range(first, first + num_samples):
                writer.add(index, DecodedImage(pixels_HW=np.full((8, 8), index, np.uint8)), None)
            writer.close()
    whole = ShardLayout(spec=spec, encoding=encoding, num_samples=70)
    with (tmp_path / "whole").open("wb") as file:
        assert BetonJoiner().join(parts, file, whole) == [MIN_PAGE_BYTES, MIN_PAGE_BYTES + 64 * 64]
    parts[1].write_bytes(parts[1].read_bytes()[:-3])
    with (
        (tmp_path / "cut").open("wb") as file,
        pytest.raises(PackError, match=r"1.part: -3 bytes; continue with --resume"),
    ):
        BetonJoiner().join(parts, file, whole)
