"""The benchmark of the profile runs, slows what it says, and its rows say what it measured."""

import csv
import os
from argparse import Namespace
from pathlib import Path

import pytest

from tests.factories import make_pack
from tests.trainer.several_ranks import plain_net
from tools import bench_profile
from trainer.config import TrainConfig
from trainer.sections import build

OPTIONS = Namespace(batch=4, size=32, rounds=1, seconds=2.0, steps=3, threads=1)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bench_profile, "RESULTS", tmp_path)
    return tmp_path / "profile.csv"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_cause_has_a_case_that_can_be_run(tmp_path: Path) -> None:
    cases = list(bench_profile.cases(tmp_path, tmp_path, OPTIONS))
    assert [case.cause for case in cases] == ["DISK", "DECODE", "AUGMENT", "COMPUTE", "STRAGGLER"]
    for case in cases:
        build(TrainConfig, case.settings, source="test")
        build(TrainConfig, case.repaired, source="test")
        assert all(callable(getattr(owner, name)) for owner, name in case.slowed.places)


def test_what_is_slowed_is_itself_again_afterwards() -> None:
    pread = os.pread
    with bench_profile.asleep(bench_profile.Slowed(((os, "pread"),), 1), 0.01):
        assert os.pread is not pread
    assert os.pread is pread


def test_rows_compare_the_prediction_with_what_was_measured(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.state.build_model", plain_net)
    pack = make_pack(tmp_path, num_images=64).folder
    (case,) = (found for found in bench_profile.cases(pack, pack, OPTIONS) if found.cause == "COMPUTE")
    bench_profile.predictions(case, tmp_path, OPTIONS)
    bench_profile.meters(pack, OPTIONS)
    predicted, meters = rows(results)
    assert (predicted["what"], predicted["verdicts_right"]) == ("COMPUTE", "1")
    ratio = float(predicted["predicted_images_per_s"]) / float(predicted["measured_images_per_s"])
    assert float(predicted["predicted_over_measured"]) == pytest.approx(ratio, rel=0.01)
    assert meters["what"] == "meters"
    assert float(meters["recorded_over_plain"]) > 0
