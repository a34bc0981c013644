"""The compiled loops: there where a compiler was, missed loudly where not, and never a pixel different."""

import importlib.machinery
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.packing import kernels
from tests.factories import make_manifest, make_release
from tests.prep_command import run


def unfiltered(filtered: bytes, height: int, row_bytes: int, step: int) -> np.ndarray:
    """The PNG specification's own words, byte by byte; uint8 [height, row_bytes]."""
    rows = np.zeros((height + 1, row_bytes + step), np.int64)
    for y in range(height):
        line = filtered[y * (row_bytes + 1) : (y + 1) * (row_bytes + 1)]
        for x in range(row_bytes):
            left, up, up_left = (int(rows[r, c]) for r, c in ((y + 1, x), (y, x + step), (y, x)))
            guess = left + up - up_left
            nearest = min((left, up, up_left), key=lambda value: abs(guess - value))  # the first of equals
            predicted = (0, left, up, (left + up) // 2, nearest)[line[0]]
            rows[y + 1, x + step] = (line[x + 1] + predicted) % 256
    return rows[1:, step:].astype(np.uint8)


@given(st.data(), st.integers(1, 6), st.integers(1, 12), st.sampled_from([1, 2, 3, 4]))
def test_row_filters_are_undone_as_the_specification_says(
    data: st.DataObject, height: int, width: int, step: int
) -> None:
    lines = [
        bytes([data.draw(st.integers(0, 4))]) + data.draw(st.binary(min_size=width * step, max_size=width * step))
        for _ in range(height)
    ]
    filtered = b"".join(lines)
    found = kernels.unfilter(filtered, height, width * step, step)
    assert found is not None
    np.testing.assert_array_equal(found, unfiltered(filtered, height, width * step, step))


def test_an_unknown_filter_is_left_to_others() -> None:
    assert kernels.unfilter(b"\x05abc", 1, 3, 1) is None


@given(source=st.integers(1, 3000), target=st.integers(1, 3000))
def test_weights_of_an_output_add_up_to_one(source: int, target: int) -> None:
    first_N, weights_NT = kernels.axis_weights(source, 0, source, target)
    assert (first_N >= 0).all()
    assert (first_N + weights_NT.shape[1] <= source).all()
    assert (np.abs(weights_NT.sum(1) - (1 << kernels.WEIGHT_BITS)) <= weights_NT.shape[1]).all()


def test_a_library_that_cannot_be_loaded_counts_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert kernels.load() is None
    broken = tmp_path / "broken.so"
    broken.write_bytes(zlib.compress(b"of another machine"))
    spec = importlib.machinery.ModuleSpec("broken", None, origin=str(broken))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    assert kernels.load() is None


def test_packing_without_them_says_so_and_makes_the_same_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, manifest = make_release(tmp_path, size_px=40), make_manifest(tmp_path)
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "home"))
    arguments = ("pack", "--manifest", manifest, "--root", root, "--format", "raw", "--size", "32", "--workers", "1")
    assert run(monkeypatch, *arguments, "--out", tmp_path / "with") == 0
    assert "C compiler" not in capsys.readouterr().err
    monkeypatch.setattr(kernels, "library", None)
    assert run(monkeypatch, *arguments, "--out", tmp_path / "without") == 0
    assert "install a C compiler" in " ".join(capsys.readouterr().err.split())
    names = sorted(path.name for path in (tmp_path / "with").iterdir())
    for name in names:
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes(), name
