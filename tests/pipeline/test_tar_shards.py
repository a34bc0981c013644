"""Shards of the `tar` format: their bytes, their index, their checks. Foreign readers: test_foreign_readers.py."""

import dataclasses
import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.encoding import Encoding
from pipeline.errors import PackError
from pipeline.image_spec import ImageSpec
from pipeline.pack import Pack
from pipeline.pack_files import Shard
from pipeline.packing.png_encode import encode_png
from pipeline.packing.shard_cut import MAX_SHARD_BYTES
from pipeline.packing.shard_format import ShardLayout
from pipeline.packing.tar import TarFormat
from pipeline.packing.ustar import header
from pipeline.tar_index import read_tar_index
from pipeline.tar_shard import index_content, read_shard_index
from tests.pack_writer import write_pack

NUM_IMAGES = 70
"""Two shards, 64 and 6."""

REJECTED = (0, 3, 66)


def noise(num_images: int, height_px: int = 12, width_px: int = 9, bits: int = 8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 1 << bits, (num_images, height_px, width_px), dtype=f"u{bits // 8}")


def targets(num_images: int) -> np.ndarray:
    values_NC = np.random.default_rng(1).random((num_images, 3)).astype(np.float32)
    values_NC[::2, 1] = np.nan
    return values_NC


ENCODINGS = {
    "jpg": (Encoding(), 8, False),
    "jpg and targets": (Encoding(targets="nih14"), 8, True),
    "png": (Encoding(image="png"), 8, False),
    "16-bit png and targets": (Encoding(image="png", targets="nih14"), 16, True),
}


@pytest.fixture(params=ENCODINGS)
def pack(request: pytest.FixtureRequest, tmp_path: Path) -> Pack:
    encoding, bits, with_targets = ENCODINGS[request.param]
    images_NHW = noise(NUM_IMAGES, bits=bits)
    targets_NC = targets(NUM_IMAGES) if with_targets else None
    return write_pack(
        tmp_path / "pack", images_NHW, pack_format="tar", encoding=encoding, targets_NC=targets_NC, rejected=REJECTED
    )


def layout_of(pack: Pack, shard: Shard) -> ShardLayout:
    num_targets = 0 if pack.encoding.targets is None else 3
    return ShardLayout(spec=pack.spec, encoding=pack.encoding, num_samples=shard.num_samples, num_targets=num_targets)


def problems(pack: Pack, number: int = 0) -> list[str]:
    shard = pack.shards[number]
    return TarFormat().problems(pack.shard_path(shard), layout_of(pack, shard), shard.first_index, pack.rejected)


def test_headers_are_those_of_the_standard_library() -> None:
    for name, num_bytes in (("000000042.jpg", 0), ("123456789.sample_index", 8), ("000000000.png", 8**11 - 1)):
        info = tarfile.TarInfo(name)
        info.size = num_bytes
        assert header(name, num_bytes) == info.tobuf(tarfile.USTAR_FORMAT)


def test_members_are_what_was_put_in(pack: Pack) -> None:
    bits = pack.spec.bits
    images_NHW, found = noise(NUM_IMAGES, bits=bits), []
    for shard in pack.shards:
        assert shard.num_bytes % 10240 == 0
        with tarfile.open(pack.shard_path(shard), format=tarfile.USTAR_FORMAT) as archive:
            members = [(info.name, archive.extractfile(info).read()) for info in archive]  # type: ignore[union-attr]
        extensions = [pack.encoding.image, "sample_index", *(["targets"] if pack.encoding.targets else [])]
        for begin in range(0, len(members), len(extensions)):
            sample = members[begin : begin + len(extensions)]
            index = int.from_bytes(sample[1][1], "little")
            assert [name for name, _ in sample] == [f"{index:09d}.{extension}" for extension in extensions]
            with Image.open(io.BytesIO(sample[0][1])) as image:
                pixels_HW = np.asarray(image)
            assert (pixels_HW.dtype, pixels_HW.shape) == (images_NHW.dtype, images_NHW.shape[1:])
            if pack.encoding.image == "png":
                np.testing.assert_array_equal(pixels_HW, images_NHW[index])
            if pack.encoding.targets:
                np.testing.assert_array_equal(np.frombuffer(sample[2][1], "<f4"), targets(NUM_IMAGES)[index])
            found.append(index)
    assert found == [index for index in range(NUM_IMAGES) if index not in REJECTED]


def test_index_is_that_of_wds2idx(pack: Pack, tmp_path: Path) -> None:
    for shard in pack.shards:
        path = pack.shard_path(shard)
        command = [
            sys.executable,
            "-m",
            "wds2idx",
            str(path),
            str(tmp_path / "peer.idx"),
        ]  # as users run it
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
        assert path.with_suffix(".idx").read_bytes() == (tmp_path / "peer.idx").read_bytes()


def test_index_leads_to_every_image(pack: Pack) -> None:
    index = read_tar_index(pack)
    assert index.shard_N.tolist() == [0] * 64 + [1] * 6
    assert np.flatnonzero(index.num_bytes_N == 0).tolist() == list(REJECTED)
    assert not index.offset_N[list(REJECTED)].any()
    for number in set(range(NUM_IMAGES)) - set(REJECTED):
        with index.files[index.shard_N[number]].open("rb") as file:
            file.seek(index.offset_N[number])
            content = file.read(index.num_bytes_N[number])
            file.seek(index.offset_N[number] - 512)
            assert file.read(13).decode() == f"{number:09d}.{pack.encoding.image}"
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            assert image.size == (9, 12)


def test_same_images_same_bytes(pack: Pack, tmp_path: Path) -> None:
    with_targets = pack.encoding.targets is not None
    again = write_pack(
        tmp_path / "again",
        noise(NUM_IMAGES, bits=pack.spec.bits),
        pack_format="tar",
        encoding=pack.encoding,
        targets_NC=targets(NUM_IMAGES) if with_targets else None,
        rejected=REJECTED,
    )
    assert again.shards == pack.shards


def test_source_jpeg_passes_through(tmp_path: Path) -> None:
    images_NHW = noise(2, 16, 16)
    content = io.BytesIO()
    Image.fromarray(images_NHW[1]).save(content, "JPEG", quality=31, progressive=True)
    extensions: tuple[Literal["jpg", "png"], ...] = ("jpg", "png")
    for extension in extensions:
        encoding = Encoding(image=extension)
        pack = write_pack(
            tmp_path / extension,
            images_NHW,
            pack_format="tar",
            encoding=encoding,
            source_jpegs={1: content.getvalue()},
        )
        index = read_tar_index(pack)
        stored = index.files[0].read_bytes()[index.offset_N[1] :][: index.num_bytes_N[1]]
        assert (stored == content.getvalue()) == (extension == "jpg")
        assert problems(pack) == []


def test_sound_shards_have_no_problems(pack: Pack) -> None:
    assert problems(pack, 0) == problems(pack, 1) == []


def test_a_shard_of_rejected_images_is_an_empty_tar(tmp_path: Path) -> None:
    pack = write_pack(tmp_path, noise(NUM_IMAGES), pack_format="tar", rejected=range(64, 70))
    assert pack.shard_path(pack.shards[1]).with_suffix(".idx").read_bytes() == b"v1.2 0\n"
    assert pack.shard_path(pack.shards[1]).read_bytes() == bytes(10240)
    assert problems(pack, 1) == []
    assert read_tar_index(pack).num_bytes_N[64:].tolist() == [0] * 6


def change(offset: int, content: bytes) -> Callable[[bytearray], None]:
    def do(shard: bytearray) -> None:
        shard[offset : offset + len(content)] = content

    return do


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (change(0, b"1"), "sample_index 1: no header of 000000001.png where the index says"),
        (change(124, b"7"), "sample_index 1: no header of 000000001.png where the index says"),
        (change(512, b"GIF89a"), "sample_index 1: not an image ("),
        (change(1536, b"\x02"), "sample_index 1: its sample_index is damaged"),
        (change(-1, b"\x01"), "it does not end with zeros"),
    ],
)
def test_damage_inside_a_shard_is_found(tmp_path: Path, damage: Callable[[bytearray], None], problem: str) -> None:
    pack = write_pack(tmp_path, noise(NUM_IMAGES), pack_format="tar", encoding=Encoding(image="png"), rejected=REJECTED)
    path = pack.shard_path(pack.shards[0])
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)
    found = problems(pack)
    assert len(found) == 1
    assert found[0].startswith(problem)


def test_images_of_another_size_depth_or_colour_are_found(tmp_path: Path) -> None:
    png, jpg = Encoding(image="png"), Encoding()
    colour = io.BytesIO()
    Image.new("RGB", (9, 12)).save(colour, "JPEG")
    packs = {
        "12 x 10 px, mode L; expected 12 x 9 px, mode L": (noise(1, 12, 10), png, {}),
        "12 x 9 px, mode I;16; expected 12 x 9 px, mode L": (noise(1, bits=16), png, {}),
        "12 x 9 px, mode RGB; expected 12 x 9 px, mode L": (noise(1), jpg, {0: colour.getvalue()}),
    }
    for problem, (images_NHW, encoding, jpegs) in packs.items():
        pack = write_pack(tmp_path / problem[:16], images_NHW, pack_format="tar", encoding=encoding, source_jpegs=jpegs)
        layout = ShardLayout(spec=ImageSpec(height_px=12, width_px=9), encoding=encoding, num_samples=1)
        assert TarFormat().problems(pack.shard_path(pack.shards[0]), layout, 0, []) == [f"sample_index 0: {problem}"]


def test_pixels_of_rejected_samples_and_absent_ones_are_found(tmp_path: Path) -> None:
    pack = write_pack(tmp_path, noise(NUM_IMAGES), pack_format="tar", rejected=REJECTED)
    other = dataclasses.replace(pack, rejected=(0, 5))
    assert problems(other) == [
        "sample_index 3: no image, and it is not rejected",
        "sample_index 5: it is rejected but has an image",
    ]
    with pytest.raises(PackError, match=r"image of sample_index 3: its index has none, pack.json expects one; run"):
        read_tar_index(other)
    with pytest.raises(PackError, match=r"sample_index 6: its index has one, pack.json says it is rejected"):
        read_tar_index(dataclasses.replace(pack, rejected=(0, 3, 6, 66)))


def test_targets_of_another_length_are_found(tmp_path: Path) -> None:
    pack = write_pack(tmp_path, noise(4), pack_format="tar", targets_NC=targets(4))
    shard, path = pack.shards[0], tmp_path / pack.shards[0].file
    layout = dataclasses.replace(layout_of(pack, shard), num_targets=4)
    assert TarFormat().problems(path, layout, 0, []) == ["its index shard-00000.idx: not of 4 targets a sample"]
    content = bytearray(path.read_bytes())
    begin = content.index(b"000000002.targets")
    content[begin : begin + 9] = b"000000003"
    path.write_bytes(content)
    assert problems(pack) == ["sample_index 2: no header of its targets"]


def test_an_index_that_is_missing_is_said(pack: Pack) -> None:
    path = pack.shard_path(pack.shards[1]).with_suffix(".idx")
    path.unlink()
    assert "its index shard-00001.idx: [Errno 2] No such file" in problems(pack, 1)[0]
    with pytest.raises(PackError, match=r"shard-00001.idx: not the index of shard-00001.tar .*cxr-prep verify"):
        read_tar_index(pack)


SHARD = Shard(file="shard-00000.tar", first_index=64, num_samples=5, num_bytes=20480, checksum="")
CONTENT = index_content([64, 66, 68], np.array([700, 512, 3000]), "jpg", 12)


def test_index_is_read_as_written() -> None:
    offset_n, num_bytes_n = read_shard_index(CONTENT, SHARD, "jpg")
    assert num_bytes_n.tolist() == [700, 0, 512, 0, 3000]
    assert offset_n.tolist() == [512, 0, 4096, 0, 7168]


@given(st.integers(0, len(CONTENT) - 1), st.integers(0, 255))
def test_a_changed_byte_of_an_index_is_found_unless_it_keeps_every_offset(at: int, value: int) -> None:
    changed = bytearray(CONTENT)
    changed[at] = value
    if changed == CONTENT:
        return
    try:
        offset_n, num_bytes_n = read_shard_index(bytes(changed), SHARD, "jpg")
    except ValueError:
        return
    assert offset_n.tolist() == [512, 0, 4096, 0, 7168]
    assert (np.abs(num_bytes_n - [700, 0, 512, 0, 3000]) < 512).all()  # what pack.json's checksum is for


def test_a_changed_size_in_an_index_is_found_by_its_checksum(tmp_path: Path) -> None:
    pack = write_pack(tmp_path, noise(3), pack_format="tar")
    path = tmp_path / "shard-00000.idx"
    size = path.read_bytes().split()[4]
    path.write_bytes(path.read_bytes().replace(b"512 " + size, b"512 %d" % (int(size) - 1)))
    assert problems(pack) == ["sample_index 0: no header of 000000000.jpg where the index says"]
    with pytest.raises(PackError, match=r"shard-00000.idx: not the index .*its checksum is not that of pack.json"):
        read_tar_index(pack)


@given(st.integers(0, len(CONTENT) - 1))
def test_any_cut_index_is_found(end: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_shard_index(CONTENT[:end], SHARD, "jpg")


@pytest.mark.parametrize(
    ("sample_indices", "num_bytes", "extension", "message"),
    [
        ([63, 66], [10, 10], "jpg", "its samples are not those of shard-00000.tar: 64 to 68, ascending"),
        ([64, 69], [10, 10], "jpg", "its samples are not those of shard-00000.tar"),
        ([66, 65], [10, 10], "jpg", "its samples are not those of shard-00000.tar"),
        ([64, 65], [10, 0], "jpg", "its samples are not those of shard-00000.tar"),
        ([64, 65], [10, 30000], "jpg", "it has images up to byte 32,560 of 20,480"),
        ([64, 65], [10, 10], "png", "damaged, or not of jpg images"),
    ],
)
def test_sound_indexes_of_other_shards_are_refused(
    sample_indices: list[int], num_bytes: list[int], extension: str, message: str
) -> None:
    content = index_content(sample_indices, np.array(num_bytes), extension, 0)
    with pytest.raises(ValueError, match=message):
        read_shard_index(content, SHARD, "jpg")


@pytest.mark.parametrize("word", [b"9" * 30, b"9" * 5000, b"-1", b"\xff"])
def test_absurd_numbers_in_an_index_are_refused(word: bytes) -> None:
    for number in (b"700", b"v1.2 3", b"000000064.jpg", b" 12 "):
        with pytest.raises(ValueError, match=r"."):
            read_shard_index(CONTENT.replace(number, number.replace(number.split()[-1], word)), SHARD, "jpg")


@pytest.mark.parametrize(
    ("size_px", "encoding", "bits"),
    [
        (256, Encoding(), 8),
        (1024, Encoding(quality=85), 8),
        (512, Encoding(quality=100), 8),
        (256, Encoding(image="png"), 8),
        (1024, Encoding(image="png"), 16),
    ],
)
def test_large_packs_are_cut_into_shards_of_about_256_mib(size_px: int, encoding: Encoding, bits: int) -> None:
    spec = ImageSpec(height_px=size_px, width_px=size_px, bits=bits)  # type: ignore[arg-type]
    step = TarFormat().samples_per_shard(10_000_000, spec, encoding)
    assert MAX_SHARD_BYTES / 8 < step * size_px**2 * bits / 8 < 8 * MAX_SHARD_BYTES  # raw pixels
    assert TarFormat().samples_per_shard(100, spec, encoding) == 64


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([8, 16]), st.integers(0, 2**32))
def test_pngs_are_read_by_pillow_as_they_were_written(height_px: int, width_px: int, bits: int, seed: int) -> None:
    pixels_HW = np.random.default_rng(seed).integers(0, 1 << bits, (height_px, width_px), dtype=f"u{bits // 8}")
    with Image.open(io.BytesIO(encode_png(pixels_HW[::-1, ::-1]))) as image:
        assert image.mode == ("L" if bits == 8 else "I;16")
        np.testing.assert_array_equal(np.asarray(image), pixels_HW[::-1, ::-1])
