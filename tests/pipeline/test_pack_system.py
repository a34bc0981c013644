"""What packing asks of the C library and of the kernel: freed memory is kept, the disk begins early."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.encoding import Encoding
from pipeline.image_spec import ImageSpec
from pipeline.pack_format import PackFormat
from pipeline.packing import checksums
from pipeline.packing.checksums import HashingSink
from pipeline.packing.decoded import DecodedImage
from pipeline.packing.formats import FORMATS
from pipeline.packing.shard_format import ShardLayout
from pipeline.packing.writeback import begin_writeback, reserve

COUNT_PAGE_FAULTS = """
import resource, sys
import numpy as np
from pipeline.packing.heap import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()

def images(count):
    for _ in range(count):  # several blocks at a time, as a decoder, a filter and an array hold them
        blocks = [np.ones(1 << 20, np.uint8) for _ in range(3)]
        del blocks

images(8)
begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
images(64)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin)
"""


def page_faults(mode: str) -> int:
    command = [sys.executable, "-c", COUNT_PAGE_FAULTS, mode]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked to keep memory")
def test_an_image_finds_the_memory_of_the_one_before_it() -> None:
    assert page_faults("given back") > 64 * 100  # the reason; 256 pages a MiB
    assert page_faults("kept") < 64


def test_the_disk_is_told_every_byte_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(checksums, "WRITEBACK_BYTES", 1000)
    monkeypatch.setattr(checksums, "begin_writeback", lambda file, offset, count: told.append((offset, count)))
    with (tmp_path / "file").open("wb") as file:
        sink = HashingSink(file)
        for count in (400, 400, 400, 2500, 999, 1, 30):
            sink.write(bytes(count))
    assert told == [(0, 1200), (1200, 2500), (3700, 1000)]


def test_the_disk_is_told_of_what_is_left_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(checksums, "begin_writeback", lambda file, offset, count: told.append((offset, count)))
    with (tmp_path / "file").open("wb") as file:
        sink = HashingSink(file)
        sink.write(bytes(400))
        sink.close()
        assert (tmp_path / "file").stat().st_size == 400
    assert told == [(0, 400)]


def test_a_hint_that_cannot_be_followed_is_no_error() -> None:
    begin_writeback(-1, 0, 1 << 20)
    reserve(-1, 1 << 20)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked to reserve room")
def test_room_is_reserved_and_the_size_left_alone(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        reserve(file.fileno(), 3 << 20)
        about = os.fstat(file.fileno())
        assert about.st_size == 0
        assert about.st_blocks * 512 >= 3 << 20
        with pytest.raises(OSError, match=r"No space left|File too large"):
            reserve(file.fileno(), 1 << 60)
        file.write(b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("pack_format", "encoding"),
    [("raw", Encoding()), ("beton", Encoding()), ("beton", Encoding(colour="rgb")), ("tar", Encoding())],
)
def test_no_shard_is_smaller_than_the_room_that_is_reserved_for_it(
    tmp_path: Path, pack_format: PackFormat, encoding: Encoding
) -> None:
    layout = ShardLayout(spec=ImageSpec(height_px=9, width_px=7), encoding=encoding, num_samples=3)
    shard_format = FORMATS[pack_format]
    image = DecodedImage(pixels_HW=np.zeros((9, 7), np.uint8))
    with (tmp_path / "shard").open("wb") as file:
        writer = shard_format.writer(file, layout, 0)
        for index in range(3):
            writer.add(index, image, None)
        writer.close()
    num_bytes = (tmp_path / "shard").stat().st_size
    known_bytes = shard_format.known_bytes(layout)
    assert known_bytes <= num_bytes
    assert num_bytes - known_bytes < 200 if pack_format != "tar" else known_bytes == 0
