"""The manifest as packs and training read it: with pyarrow alone, and nothing that is not a manifest."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manifests.build import write_manifest
from manifests.errors import ManifestError
from manifests.findings import FINDINGS
from manifests.schema import REQUIRED_COLUMNS, SPLITS
from manifests.table import labels_NC, read_manifest
from tests.manifests.tiny_release import built, write_release

PROJECT = Path(__file__).parents[2]
METADATA = {"schema_version": "1", "dataset": "nih", "counts": {"images": 2}}

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "String": TEXT | st.none(),
    "Int32": st.integers(1, 5000) | st.none(),
    "Float32": st.floats(0, 100, width=32) | st.none(),
    "Int8": st.sampled_from([0, 1, -1, None]),
}
NEVER_NULL = ("dataset", "image_id", "path", "patient_id")
ROW = st.fixed_dictionaries(
    {name: TEXT if name in NEVER_NULL else CELLS[dtype] for name, dtype in REQUIRED_COLUMNS.items()}
    | {"split": st.sampled_from(SPLITS)}
    | dict.fromkeys(FINDINGS, CELLS["Int8"])
)


def frame_of(rows: list[dict[str, Any]], findings: tuple[str, ...] = FINDINGS) -> pl.DataFrame:
    types = REQUIRED_COLUMNS | dict.fromkeys(findings, "Int8")
    return pl.DataFrame(rows, schema={name: getattr(pl, dtype) for name, dtype in types.items()})


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=5))
def test_what_polars_writes_pyarrow_reads(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = tmp_path / "manifest.parquet"
    write_manifest(path, frame_of(rows), METADATA)
    found = read_manifest(path)
    assert found.table.to_pylist() == rows
    assert found.metadata == METADATA
    values, labelled = labels_NC(found, FINDINGS)
    for number, row in enumerate(rows):
        for column, name in enumerate(FINDINGS):
            assert bool(labelled[number, column]) is (row[name] is not None)
            assert values[number, column] == (row[name] or 0)
    for split in SPLITS:
        assert found.in_split(split).tolist() == [row["split"] == split for row in rows]


def test_a_copy_written_by_pyarrow_is_a_manifest_too(tmp_path: Path) -> None:
    table = built(write_release(tmp_path / "release"))
    copy = tmp_path / "copy.parquet"
    pq.write_table(table.table, copy)
    assert read_manifest(copy).metadata == table.metadata
    assert read_manifest(copy).table.equals(table.table)


def test_a_finding_without_a_column_is_not_labelled(tmp_path: Path) -> None:
    table = built(write_release(tmp_path / "release"))
    fewer = type(table)(table=table.table.drop_columns(["Mass"]), metadata=table.metadata)
    values, labelled = labels_NC(fewer, ("Mass", "Hernia"))
    assert values.dtype == np.int8
    assert values[:, 0].tolist() == [0] * 6
    assert not labelled[:, 0].any()
    assert values[:, 1].tolist() == [0, 0, 0, 0, 0, 1]
    assert labelled[:, 1].all()
    assert "Mass" not in fewer.findings


def damaged(tmp_path: Path, table: pa.Table, metadata: object = None) -> Path:
    path = tmp_path / "damaged.parquet"
    stored = table.schema.metadata if metadata is None else {b"cxr": json.dumps(metadata).encode()}
    pq.write_table(table.replace_schema_metadata(stored), path)
    return path


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no such manifest; `cxr-prep build-manifest` writes one"):
        read_manifest(tmp_path / "missing.parquet")
    text = tmp_path / "labels.csv"
    text.write_text("Image Index,Finding Labels\n" * 9)
    with pytest.raises(ManifestError, match="cannot be read as a Parquet file"):
        read_manifest(text)
    with pytest.raises(ManifestError, match="cannot be read as a Parquet file"):
        read_manifest(tmp_path)
    table = built(write_release(tmp_path / "release")).table
    no_manifests: list[object] = [[], {"schema_version": "1"}, "x"]
    for metadata in no_manifests:
        with pytest.raises(ManifestError, match="a Parquet file, but no manifest"):
            read_manifest(damaged(tmp_path, table, metadata))
    with pytest.raises(ManifestError, match=r"manifest schema '2', this version reads '1'"):
        read_manifest(damaged(tmp_path, table, METADATA | {"schema_version": "2"}))


def test_a_manifest_cut_short_is_refused(tmp_path: Path) -> None:
    table = built(write_release(tmp_path / "release")).table
    path = damaged(tmp_path, table)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ManifestError, match="cannot be read as a Parquet file"):
        read_manifest(path)


def test_wrong_columns_are_reported_together(tmp_path: Path) -> None:
    table = built(write_release(tmp_path / "release")).table
    nothing = pa.array([None] * 6, pa.large_string())
    wrong = table.drop_columns(["sex"])
    wrong = wrong.set_column(wrong.column_names.index("Mass"), "Mass", pa.array([0.5] * 6))
    wrong = wrong.set_column(wrong.column_names.index("path"), "path", nothing)
    with pytest.raises(ManifestError, match="not the columns of manifest schema 1") as caught:
        read_manifest(damaged(tmp_path, wrong))
    assert caught.value.problems == ("path: 6 rows are null", "sex: missing", "Mass: is double, expected Int8")
    wrong = table.set_column(table.column_names.index("split"), "split", pa.array(["dev"] * 6))
    with pytest.raises(ManifestError, match="unknown value 'dev'"):
        read_manifest(damaged(tmp_path, wrong))


@pytest.mark.parametrize("module", ["manifests.table", "manifests.selection", "manifests.stats"])
def test_readers_import_neither_polars_nor_torch(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'polars', 'torch'}} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=PROJECT)
    assert found.stdout == "[]\n"


def test_building_imports_neither_torch_nor_numpy_nor_pyarrow(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    code = (
        "import sys; sys.argv = ['cxr-prep', 'build-manifest', '--dataset', 'nih', '--root', sys.argv[1]]\n"
        "from pipeline.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, sorted({'torch', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    environment = {"CXR_HOME": str(tmp_path / "home"), "PATH": ""}
    found = subprocess.run(
        [sys.executable, "-c", code, str(root)],
        check=True,
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=environment,
    )
    assert found.stdout.endswith("\n0 []\n")
