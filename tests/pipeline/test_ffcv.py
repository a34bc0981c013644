"""Our betons beside FFCV's own: the bytes of its writer, and what its Loader reads.

FFCV runs in one process of its own for all tests of this file: its import takes 5 s, each Loader compiles, and what
hangs there must not hang here.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ffcv_peer import run_ffcv
from tests.foreign_readers import example_of, found_by_ffcv
from tests.pipeline.test_beton import CASES, noise, targets

REJECTED = (2, 69)
READ = {
    "pages with an empty end": {"os_cache": False, "random": True},
    "targets": {"os_cache": True, "random": False},
    "colour and targets": {"os_cache": True, "random": True},
}
"""Case -> how its beton is read: mapped or page by page, in order or not."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds our beton of each case, FFCV's, what FFCV's Loader found in ours, and what README's example did."""
    folder = tmp_path_factory.mktemp("ffcv")
    jobs: list[dict[str, Any]] = []
    for name, case in CASES.items():
        case.write(folder / name)
        images = noise(case.num_images, case.height_px, case.width_px)
        if case.colour == "rgb":
            images = np.repeat(images[..., None], 3, axis=3)
        arrays, out = folder / f"{name} arrays.npz", folder / f"{name} peer.beton"
        np.savez(arrays, images=images, targets=targets(case.num_images, case.num_targets))
        jobs.append({"job": "write", "arrays": str(arrays), "out": str(out), "page_bytes": case.layout.page_bytes})
    for name, how in READ.items():
        CASES[name].write(folder / f"{name} rejected", rejected=REJECTED)
        beton, out = folder / f"{name} rejected" / "pack.beton", folder / f"{name} found.npz"
        jobs.append({"job": "read", "beton": str(beton), "out": str(out), **how})
    CASES["pages that are full"].write(folder / "cxr-data/packs/nih-256-beton", rejected=REJECTED)
    out = folder / "example found.npz"
    jobs.append({"job": "example", "code": example_of("ffcv"), "out": str(out), "folder": str(folder)})
    run_ffcv(folder, jobs)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_bytes_are_those_of_ffcvs_own_writer(name: str, folder: Path) -> None:
    assert (folder / name / "pack.beton").read_bytes() == (folder / f"{name} peer.beton").read_bytes()


@pytest.mark.parametrize("name", READ)
def test_ffcvs_loader_reads_every_sample(name: str, folder: Path) -> None:
    case = CASES[name]
    images_NHW = noise(case.num_images, case.height_px, case.width_px)
    images_NHW[list(REJECTED)] = 0
    found = found_by_ffcv(folder / f"{name} found.npz")
    assert set(found) == set(range(case.num_images))
    for index, (image_HW, targets_C) in found.items():
        np.testing.assert_array_equal(image_HW, images_NHW[index])
        np.testing.assert_array_equal(targets_C, targets(case.num_images, case.num_targets)[index])


def test_the_readmes_example_reads_every_sample(folder: Path) -> None:
    images_NHW = noise(100, 256, 256)
    images_NHW[list(REJECTED)] = 0
    with np.load(folder / "example found.npz") as found:
        assert {int(index) for index in found} == set(range(100))
        for index in found:
            np.testing.assert_array_equal(found[index], images_NHW[int(index)])
