"""`resident`: the arithmetic of its refusal, and what it holds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from manifests.errors import ConfigError
from pipeline.errors import PackError
from pipeline.loaders.memory import _free_in_cgroup, _free_on_host, free_bytes
from tests.loader_cases import Case, Packs, opened, over, write_packs
from tests.raw_pack import numbered_images

NUM_IMAGES, SIZE_PX = 40, 64
MIB = 1 << 20
RESIDENT = [Case("resident", "raw"), Case("resident", "beton")]


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Packs:
    return write_packs(tmp_path_factory.mktemp("resident"), numbered_images(NUM_IMAGES, SIZE_PX), rows_per_shard=15)


@over(RESIDENT)
def test_what_does_not_fit_is_refused_with_the_arithmetic(
    case: Case, packs: Packs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.loaders.resident._GIB", MIB)  # so that small numbers show
    monkeypatch.setattr("pipeline.loaders.resident.free_bytes", lambda device: MIB // 8)
    other = "raw" if case.pack_format == "raw" else "ffcv"
    # 40 x 64 x 64 = 160 KiB; nine tenths of 128 KiB are 117,964 bytes: 28 images, or all at 64 x sqrt(0.72) = 54 px.
    expected = (
        r"40 images x 64 x 64 px = 0\.16 GiB, on cpu are 0\.12 GiB free, of which 90% may be used = 0\.11 GiB.*"
        rf"28 of these images, or for all of them at 48 x 48 px \(`cxr-prep pack --size`\); --loader {other}"
    )
    with pytest.raises(ConfigError, match=expected):
        opened(packs, case)
    assert 28 * SIZE_PX**2 <= 0.9 * MIB / 8 < 29 * SIZE_PX**2
    assert NUM_IMAGES * 48**2 <= 0.9 * MIB / 8
    with opened(packs, case, np.arange(28)) as loader:  # as many as it said
        assert loader.num_steps() == 7


@over(RESIDENT)
def test_only_the_selection_is_loaded(case: Case, packs: Packs) -> None:
    chosen = np.array([3, 8, 21, 39])
    with opened(packs, case, chosen) as loader:
        images_nR = loader._images_nR  # type: ignore[attr-defined]
    np.testing.assert_array_equal(images_nR, numbered_images(NUM_IMAGES, SIZE_PX)[chosen].reshape(4, -1))


@over(RESIDENT)
def test_images_are_loaded_in_pieces(case: Case, packs: Packs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.loaders.resident._LOAD_BYTES", 7 * SIZE_PX**2)
    with opened(packs, case) as loader:
        images_nR = loader._images_nR  # type: ignore[attr-defined]
    np.testing.assert_array_equal(images_nR, numbered_images(NUM_IMAGES, SIZE_PX).reshape(NUM_IMAGES, -1))


def test_a_beton_of_colour_is_refused(packs: Packs, tmp_path: Path) -> None:
    pack = packs["beton"]
    other: Packs = {"beton": replace(pack, encoding=replace(pack.encoding, colour="rgb"))}
    with pytest.raises(PackError, match=r"has the colour rgb.*loaders read gray.*cxr-prep pack --format beton"):
        opened(other, Case("resident", "beton"))


def test_free_memory_is_what_the_machine_and_the_container_leave(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  16 kB\nMemFree:  1 kB\nMemAvailable:       12 kB\n")
    assert _free_on_host(meminfo) == 12 * 1024

    group = tmp_path / "group"
    assert _free_in_cgroup(group) > 1 << 60  # there is none
    group.mkdir()
    (group / "memory.max").write_text("max\n")
    assert _free_in_cgroup(group) > 1 << 60
    (group / "memory.max").write_text("1000\n")
    (group / "memory.current").write_text("700\n")
    (group / "memory.stat").write_text("anon 400\nfile 300\nkernel 5\n")
    assert _free_in_cgroup(group) == 600  # the page cache gives way
    assert 0 < free_bytes(torch.device("cpu")) < 1 << 60
