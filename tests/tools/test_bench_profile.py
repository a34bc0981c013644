"""The benchmark of the profile runs, slows what it says, and its rows say what it measured."""

import csv
import os
import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from tests.factories import make_pack
from tests.trainer.several_ranks import plain_net
from tools import bench_profile, profile_injected
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
    cases = list(profile_injected.cases(tmp_path, tmp_path, OPTIONS))
    assert {case.cause for case in cases} == {"DISK", "DECODE", "AUGMENT", "COMPUTE", "STRAGGLER"}
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        build(TrainConfig, case.settings, source="test")
        build(TrainConfig, case.repaired, source="test")
        assert all(callable(getattr(owner, name)) for owner, name in case.slowed.places)


@pytest.mark.parametrize(("how", "cores"), [("waits", 0.0), ("computes", 1.0)])
def test_what_is_slowed_waits_or_computes_and_is_itself_again_afterwards(
    how: profile_injected.How, cores: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: done.append((seconds, 0.0)))
    monkeypatch.setattr(profile_injected, "compute", lambda seconds: done.append((seconds, 1.0)))
    done: list[tuple[float, float]] = []
    getpid = os.getpid
    with profile_injected.slow(profile_injected.Slowed(((os, "getpid"),), 1, how), 0.01):
        assert os.getpid is not getpid
        assert os.getpid() == getpid()
    assert os.getpid is getpid
    assert done == [(0.01, cores)]


def test_what_computes_multiplies_until_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    products: list[torch.Tensor] = []
    multiply = torch.mm
    monkeypatch.setattr(torch, "mm", lambda *matrices: products.append(multiply(*matrices)))
    begin_s = time.perf_counter()
    profile_injected.compute(0.05)
    assert time.perf_counter() - begin_s >= 0.05
    assert products


def test_rows_compare_the_prediction_with_what_was_measured(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.state.build_model", plain_net)
    pack = make_pack(tmp_path, num_images=64).folder
    (case,) = (found for found in profile_injected.cases(pack, pack, OPTIONS) if found.name == "COMPUTE-waits")
    bench_profile.predictions(case, tmp_path, OPTIONS)
    bench_profile.meters(pack, OPTIONS)
    predicted, meters = rows(results)
    assert (predicted["what"], predicted["how"], predicted["verdicts_right"]) == ("COMPUTE", "waits", "1")
    assert predicted["bound"] == "at least"
    ratio = float(predicted["predicted_images_per_s"]) / float(predicted["measured_images_per_s"])
    assert float(predicted["predicted_over_measured"]) == pytest.approx(ratio, rel=0.01)
    assert float(predicted["off_by"]) == pytest.approx(max(0.0, ratio - 1), abs=0.01), "a floor may be too low"
    assert meters["what"] == "meters"
    assert float(meters["recorded_over_plain"]) > 0
