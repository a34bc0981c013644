"""`ffcv`: what FFCV does to a process stays undone."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.loaders import ffcv_code
from tests.loader_cases import Case, opened
from tests.pack_writer import write_pack
from tests.raw_pack import numbered_images

FFCV = Case("ffcv", "beton")


def test_importing_and_opening_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    """FFCV sets torch's threads and draws from numpy's generator; warnings are errors here."""
    write_pack(tmp_path, numbered_images(10, 8), pack_format="beton")
    program = f"""
import numpy as np, torch
torch.set_num_threads(3)
state = np.random.get_state()[1].tolist()
from pathlib import Path
from pipeline.loaders.ffcv_code import FFCVReader
reader = FFCVReader(Path({str(tmp_path / "pack.beton")!r}))
images_BHW = np.empty((2, 8, 8), np.uint8)
reader.read(np.array([7, 2]), images_BHW)
assert images_BHW[:, 0, 1].tolist() == [7, 2]
assert torch.get_num_threads() == 3
assert np.random.get_state()[1].tolist() == state
"""
    command = [sys.executable, "-W", "error", "-c", program]
    subprocess.run(command, check=True, timeout=120, cwd=Path(__file__).parents[2])


def test_code_is_compiled_once_for_all_betons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    works = ffcv_code._compile

    def counted(*arguments: Any) -> Callable[..., object]:
        compiled.append(arguments)
        return works(*arguments)

    monkeypatch.setattr(ffcv_code, "_compiled", {})
    monkeypatch.setattr(ffcv_code, "_compile", counted)
    for size_px in (6, 7, 8):
        images_NHW = numbered_images(10 + size_px, size_px)
        pack = write_pack(tmp_path / str(size_px), images_NHW, pack_format="beton")
        with opened({"beton": pack}, FFCV) as loader:
            for step in loader.train_batches(0):
                np.testing.assert_array_equal(
                    step.batch.images_B1HW[:, 0].numpy(), images_NHW[step.batch.sample_index_B.numpy()]
                )
    assert len(compiled) == 1


def test_a_beton_with_targets_for_others_is_read(tmp_path: Path) -> None:
    images_NHW = numbered_images(10, 8)
    pack = write_pack(tmp_path, images_NHW, pack_format="beton", targets_NC=np.ones((10, 3), np.float32))
    with opened({"beton": pack}, FFCV) as loader:
        steps = list(loader.ordered_batches())
    np.testing.assert_array_equal(torch.cat([step.batch.images_B1HW for step in steps])[:, 0].numpy(), images_NHW)


def test_a_closed_reader_reads_nothing(tmp_path: Path) -> None:
    """Its memory map is gone by then."""
    write_pack(tmp_path, numbered_images(10, 8), pack_format="beton")
    reader = ffcv_code.FFCVReader(tmp_path / "pack.beton")
    reader.close()
    reader.close()
    with pytest.raises(RuntimeError, match="closed"):
        reader.read(np.array([1]), np.empty((1, 8, 8), np.uint8))
