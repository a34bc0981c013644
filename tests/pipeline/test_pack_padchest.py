"""PadChest from its label file to a pack: 16-bit images are windowed, unreadable ones rejected, labels stay aligned."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from manifests.label_spaces import NVUM_NIH
from manifests.selection import select
from manifests.workspace import Workspace
from pipeline.cli import app
from pipeline.pack import open_pack
from tests.manifests.tiny_padchest import row, write_release
from tests.png_writer import encode_png

SIZE_PX = 8


def png_16_bit(seed: int) -> bytes:
    samples_HWK = np.random.default_rng(seed).integers(0, 4096, (SIZE_PX, SIZE_PX, 1))
    return encode_png(samples_HWK, bit_depth=16)


def run(*arguments: str | Path) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_images_cut_short_or_empty_survive_as_rejections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "home"))
    labels = ("['normal']", "['nodule']", "['pulmonary mass']", "['normal']", "['cardiomegaly']")
    root = write_release(tmp_path / "release", [row(str(number), text) for number, text in enumerate(labels)])
    for number in range(len(labels)):
        (root / "0" / f"{number}.png").write_bytes(png_16_bit(number))
    (root / "0" / "1.png").write_bytes(png_16_bit(1)[:-40])
    (root / "0" / "3.png").write_bytes(b"")
    run("build-manifest", "--dataset", "padchest", "--root", root, "--preset", "paper")
    run("pack", "--size", str(SIZE_PX), "--format", "raw")
    pack = open_pack(Workspace.current().pack_path("padchest", SIZE_PX, "raw"))
    assert pack.rejected == (1, 3)
    pixels_NSS = np.load(pack.shard_path(pack.shards[0]))
    assert [bool(pixels_SS.any()) for pixels_SS in pixels_NSS] == [True, False, True, False, True]
    assert all(pixels_SS.max() > 200 for pixels_SS in pixels_NSS[[0, 2, 4]])
    selection = select(pack.manifest(), NVUM_NIH, "test", pack.rejected)
    assert selection.sample_index_n.tolist() == [0, 2, 4]
    present = [{NVUM_NIH.findings[column] for column in np.flatnonzero(row_C)} for row_C in selection.targets_NC]
    assert present == [{"No Finding"}, {"Nodule"}, {"Mass"}, {"No Finding"}, {"Cardiomegaly"}]
