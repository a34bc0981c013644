"""Packs in the hands of the readers they are made for: DALI, webdataset, numpy. FFCV: test_ffcv.py."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.encoding import Encoding
from pipeline.pack import Pack
from tests.foreign_readers import Found, example_of, psnr_db, read_with_dali, read_with_webdataset
from tests.pack_writer import write_pack

NUM_IMAGES = 150
REJECTED = {0, 5, 149, *range(64, 128)}
"""Among them a whole shard of the tar packs."""

HEIGHT_PX, WIDTH_PX = 40, 56
SNIPPET_TIMEOUT_S = 240


def films(bits: int = 8) -> np.ndarray:
    """Return uint8 or uint16 [N, H, W], each image another: smooth, with grain."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : 1 : HEIGHT_PX * 1j, 0 : 1 : WIDTH_PX * 1j]
    slopes = rng.uniform(0, 0.4, (NUM_IMAGES, 2, 1, 1))
    films_NHW = 0.1 + slopes[:, 0] * y + slopes[:, 1] * x + rng.normal(0, 0.01, (NUM_IMAGES, HEIGHT_PX, WIDTH_PX))
    levels_NHW: np.ndarray = np.rint(films_NHW.clip(0, 1) * ((1 << bits) - 1)).astype(f"u{bits // 8}")
    return levels_NHW


def targets() -> np.ndarray:
    targets_NC = np.random.default_rng(1).integers(0, 2, (NUM_IMAGES, 14)).astype(np.float32)
    targets_NC[::3, 2] = np.nan
    return targets_NC


def assert_found(found: Found, expected_NHW: np.ndarray, indices: set[int], *, with_targets: bool, jpeg: bool) -> None:
    """Every one of `indices` was found, none else, with its targets and its pixels: exactly, or as JPEG keeps them."""
    assert set(found) == indices
    targets_NC = targets()
    for index, (image_HW, targets_C) in found.items():
        assert image_HW.dtype == expected_NHW.dtype
        if jpeg:
            assert psnr_db(image_HW, expected_NHW[index]) > MIN_PSNR_DB
        else:
            np.testing.assert_array_equal(image_HW, expected_NHW[index])
        if with_targets:
            np.testing.assert_array_equal(targets_C, targets_NC[index])
        else:
            assert targets_C.shape == (0,)


MIN_PSNR_DB = 42
"""Of films of 40 x 56 px with grain as JPEGs of quality 95, the worst of 150."""

TARS = {
    "jpg": (Encoding(), 8),
    "jpg and targets": (Encoding(targets="nih14"), 8),
    "png": (Encoding(image="png"), 8),
    "16-bit png and targets": (Encoding(image="png", targets="nih14"), 16),
}


@pytest.fixture(scope="module", params=TARS)
def tar_pack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    encoding, bits = TARS[request.param]
    targets_NC = targets() if encoding.targets else None
    folder = tmp_path_factory.mktemp("tar")
    return write_pack(
        folder, films(bits), pack_format="tar", encoding=encoding, targets_NC=targets_NC, rejected=REJECTED
    )


def test_webdataset_reads_every_sample_of_a_tar(tar_pack: Pack) -> None:
    assert_tar_found(read_with_webdataset(tar_pack), tar_pack)


def test_dali_reads_every_sample_of_a_tar(tar_pack: Pack) -> None:
    assert_tar_found(read_with_dali(tar_pack), tar_pack)


def assert_tar_found(found: Found, pack: Pack) -> None:
    assert_found(
        found,
        films(pack.spec.bits),
        set(range(NUM_IMAGES)) - REJECTED,
        with_targets=pack.encoding.targets is not None,
        jpeg=pack.encoding.image == "jpg",
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packs that the README's examples read."""
    folder = tmp_path_factory.mktemp("workspace")
    packs = folder / "cxr-data/packs"
    raw = write_pack(packs / "nih-256-raw", films(), pack_format="raw", rejected=REJECTED)
    (raw.folder / "pack.json").write_bytes(raw.to_json())
    write_pack(packs / "nih-256-tar", films(), pack_format="tar", rejected=REJECTED)
    return folder


USE = """
import atexit as _atexit, numpy as _np
_found = {}
def use(sample_index, image_HW):
    assert sample_index not in _found
    _found[sample_index] = _np.array(image_HW)
_atexit.register(lambda: _np.savez("found.npz", **{str(index): image for index, image in _found.items()}))
"""


@pytest.mark.parametrize("tool", ["numpy", "webdataset", "dali"])
def test_examples_of_the_readme_read_every_sample(tool: str, workspace: Path) -> None:
    subprocess.run([sys.executable, "-c", USE + example_of(tool)], cwd=workspace, check=True, timeout=SNIPPET_TIMEOUT_S)
    with np.load(workspace / "found.npz") as stored:
        found = {int(index): (stored[index], np.zeros(0)) for index in stored}
    (workspace / "found.npz").unlink()
    expected_NHW, indices = films(), set(range(NUM_IMAGES))
    is_tar = tool in ("webdataset", "dali")
    if is_tar:
        indices -= REJECTED
    else:
        expected_NHW[sorted(REJECTED)] = 0
    assert_found(found, expected_NHW, indices, with_targets=False, jpeg=is_tar)
