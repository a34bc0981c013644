"""What packing asks of the C library and of the kernel: freed memory is kept, the disk begins early."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.packing import checksums
from pipeline.packing.checksums import HashingSink
from pipeline.packing.writeback import begin_writeback

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


def test_a_hint_that_cannot_be_followed_is_no_error() -> None:
    begin_writeback(-1, 0, 1 << 20)
