"""`cxr-train predict` on files as they come: DICOM of many makes, names of OpenI, damaged ones between."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from typer.testing import CliRunner

from tests.factories import make_manifest
from tests.trainer.tiny_runs import with_column
from trainer.cli import app

SAME_PIXELS = ("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_jpeg_ls_lossless.dcm")
"""One image in four transfer syntaxes."""

OTHERS = ("CT_small.dcm", "examples_rgb_color.dcm", "SC_rgb_jpeg_dcmtk.dcm", "JPEG2000.dcm")
"""CT, ultrasound in colour, a screenshot, scintigraphy: no chest films, but images."""

REFUSED = {
    "MR_truncated.dcm": "corrupt",
    "rtdose.dcm": "animated",
    "rtplan.dcm": "not_an_image",
    "JPEG-lossy.dcm": "unsupported",
}
"""File of pydicom -> why it has no probabilities."""

OPENI = ("CXR1_1_IM-0001-3001.png", "CXR1_1_IM-0001-4001.png", "CXR1000_IM-0003-1001.png", "CXR2_IM-0652-1001.jpg")


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Folder of DICOM files, names as OpenI has them, and a PNG that was cut short."""
    folder = tmp_path / "films"
    folder.mkdir()
    for name in (*SAME_PIXELS, *OTHERS, *REFUSED):
        shutil.copy(str(get_testdata_file(name)), folder)
    rng = np.random.default_rng(0)
    for name in OPENI:
        Image.fromarray(rng.integers(0, 256, (60, 50), np.uint8)).save(folder / name)
    (folder / "CXR3_cut.png").write_bytes((folder / OPENI[0]).read_bytes()[:400])
    return folder


def predict(run: Path, out: Path, *arguments: object) -> int:
    return CliRunner().invoke(app, ["predict", "--run", str(run), "--out", str(out), *map(str, arguments)]).exit_code


@pytest.mark.parametrize("workers", [1, 2])
def test_damaged_files_among_good_ones_are_listed_and_the_others_predicted(
    evaluated_run: Path, films: Path, tmp_path: Path, workers: int
) -> None:
    options = (films, "--workers", workers, "--batch-size", 4)
    assert predict(evaluated_run, tmp_path / "found.parquet", *options) == 0
    table = pq.read_table(tmp_path / "found.parquet")
    good = sorted((*SAME_PIXELS, *OTHERS, *OPENI))
    assert [Path(path).name for path in table["path"].to_pylist()] == good
    probs_nC = np.stack([column.to_numpy() for column in table.columns[1:]], axis=1)
    assert ((probs_nC > 0) & (probs_nC < 1)).all()
    rejected = pyarrow.csv.read_csv(tmp_path / "found.rejected.csv").to_pylist()
    assert {Path(row["path"]).name: row["reason"] for row in rejected} == REFUSED | {"CXR3_cut.png": "corrupt"}
    assert all(row["detail"] for row in rejected)

    one, *others = (probs_nC[good.index(name)] for name in SAME_PIXELS)
    for other in others:
        assert np.abs(one - other).max() < 1e-6, "a place in the batch may round otherwise, no more"
    assert len({tuple(row.round(4)) for row in probs_nC}) == len(good) - len(others)

    # --strict changes the exit code alone.
    assert predict(evaluated_run, tmp_path / "strict.parquet", *options, "--strict") == 1
    assert pq.read_table(tmp_path / "strict.parquet").equals(table)


def test_a_manifest_names_the_same_files_by_their_images(evaluated_run: Path, films: Path, tmp_path: Path) -> None:
    names = [*OPENI, "MR_small.dcm", "MR_truncated.dcm", "CXR9_IM-2407-1001.png", "CT_small.dcm"]
    table = pq.read_table(make_manifest(tmp_path, num_images=len(names)))
    for column, values in (("dataset", ["openi"] * len(names)), ("image_id", names), ("path", names)):
        table = with_column(table, column, pa.array(values))
    pq.write_table(table, tmp_path / "openi.parquet")
    asked = ("--manifest", tmp_path / "openi.parquet", "--root", films)
    assert predict(evaluated_run, tmp_path / "rows.parquet", *asked) == 0
    rows = pq.read_table(tmp_path / "rows.parquet")
    good = [name for name in names if (films / name).is_file() and name not in REFUSED]
    assert rows["image_id"].to_pylist() == good
    assert set(rows["dataset"].to_pylist()) == {"openi"}
    rejected = pyarrow.csv.read_csv(tmp_path / "rows.rejected.csv").to_pylist()
    assert [(row["image_id"], row["reason"]) for row in rejected] == [
        ("MR_truncated.dcm", "corrupt"), ("CXR9_IM-2407-1001.png", "missing_file"),
    ]  # fmt: skip
    assert predict(evaluated_run, tmp_path / "named.parquet", *(films / name for name in good)) == 0
    named = pq.read_table(tmp_path / "named.parquet")
    assert named.equals(rows.drop_columns(["dataset", "image_id"]))
