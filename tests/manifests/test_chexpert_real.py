"""The complete train.csv of CheXpert, where `$CXR_REAL_DATA/chexpert` has it: every count that is known of it.

CheXpert may not be passed on, so that not even every machine with real releases has it: without the file there are no
tests here, rather than skipped ones.
"""

import os
from pathlib import Path

import pytest

from manifests.build import BuildConfig, build_manifest
from manifests.label_spaces import NVUM_CXP, NVUM_CXP_COLUMNS, LabelSpace
from manifests.selection import NO_AGE, NO_POSITIVE, NOT_FRONTAL, select
from manifests.splits import SplitConfig
from manifests.table import ManifestTable, read_manifest

ROOT = Path(os.environ.get("CXR_REAL_DATA") or ".") / "chexpert"

if (ROOT / "train.csv").is_file():

    @pytest.fixture(scope="module", params=[0, 1])
    def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ManifestTable:
        root = tmp_path_factory.mktemp("chexpert")
        (root / "train.csv").symlink_to(ROOT / "train.csv")
        out = root / "out" / "chexpert.parquet"
        split = SplitConfig(seed=request.param)
        config = BuildConfig(dataset="chexpert", root=root, out=out, allow_missing_images=True, split=split)
        return read_manifest(build_manifest(config).out)

    def test_rows_patients_and_oddities(table: ManifestTable) -> None:
        assert table.num_rows == 223_414
        assert table.metadata["counts"]["patients"] == 64_540
        assert table.metadata["counts"]["ages_0"] == 3
        assert table.metadata["counts"]["sex_unknown"] == 1
        views = table.strings("view")
        assert (views.count("LL"), views.count("RL")) == (16, 1)

    @pytest.mark.parametrize(
        ("space", "before_empty", "selected"), [(NVUM_CXP, 39_775, 32_010), (NVUM_CXP_COLUMNS, 191_024, 150_993)]
    )
    def test_the_authors_rows(table: ManifestTable, space: LabelSpace, before_empty: int, selected: int) -> None:
        selection = select(table, space, None)
        left_out = selection.left_out
        assert table.num_rows - left_out[NOT_FRONTAL] - left_out[NO_AGE] == 191_024
        assert selection.num_selected + left_out[NO_POSITIVE] == before_empty
        assert selection.num_selected == selected
        if space is NVUM_CXP:
            patients = table.column("patient_id").take(selection.sample_index_n).unique()
            assert len(patients) == 23_093
