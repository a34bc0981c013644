"""The benchmark of suspected labels: both orders see the same labels, and differences are paired by seed."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from manifests.table import read_manifest
from tests.factories import make_manifest
from tools import bench_suspects, suspect_scores
from tools.bench_suspects import BASELINES, Ranked, cleanlab_scores, fold_of, paired, report, without_fold


def test_cleanlab_is_given_the_labels_and_their_probabilities() -> None:
    rng = np.random.default_rng(0)
    labels, probs = rng.random((50, 4)) < 0.3, rng.random((50, 4))
    quality_n, quality_nC = cleanlab_scores(labels, probs)
    assert np.allclose(quality_nC, np.where(labels, probs, 1 - probs)), "self-confidence"
    assert quality_n.shape == (50,)
    worst = np.sort(quality_nC, axis=1)
    assert (quality_n >= worst[:, 0]).all()
    assert (quality_n <= worst[:, -1]).all()


def test_a_patient_is_in_one_fold_and_left_out_of_its_labels_alone(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, num_images=80)
    whole = read_manifest(manifest)
    left_out = []
    for fold in range(3):
        kept = read_manifest(without_fold(manifest, fold, 3, tmp_path / f"{fold}.parquet"))
        missing = set(whole.strings("image_id")) - set(kept.strings("image_id"))
        rows = [row for row, image in enumerate(whole.strings("image_id")) if image in missing]
        assert all(whole.strings("split")[row] == "train" for row in rows)
        assert {fold_of(str(whole.strings("patient_id")[row]), 3) for row in rows} == {fold}
        left_out += rows
    assert sorted(left_out) == np.flatnonzero(whole.in_split("train")).tolist()


def test_rates_of_labels_that_are_never_wrong_suspect_only_what_the_model_denies() -> None:
    labels = np.random.default_rng(0).random((200, 2)) < 0.3
    sure = np.where(labels, 0.999, 0.001)
    assert (suspect_scores.with_rates(sure, labels, 0.999) < 0.1).all()
    probs = np.random.default_rng(1).random((200, 2))
    scores = suspect_scores.with_rates(probs, labels, 0.5)
    for column in range(2):
        present, absent = labels[:, column], ~labels[:, column]
        assert (np.diff(scores[present, column][np.argsort(probs[present, column])]) <= 1e-12).all()
        assert (np.diff(scores[absent, column][np.argsort(probs[absent, column])]) >= -1e-12).all()


def test_every_measure_of_suspicion_ranks_a_trained_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suspect_scores, "RESULTS", tmp_path)
    monkeypatch.setattr(suspect_scores, "NUM_ROWS", 300)
    monkeypatch.setattr("sys.argv", ["suspect_scores", "--seeds", "0", "--epochs", "3"])
    suspect_scores.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 6 == (tmp_path / "suspect_scores.csv").read_text().count("\n") - 1
    case = suspect_scores.trained(0, 3)
    ours = suspect_scores.ranked(case, "memory", "distance")
    assert case.is_wrong_NC.sum() > ours.num_found[2] > 0


def test_differences_are_paired_by_seed() -> None:
    difference, half_width = paired([5.0, 7.0, 10.0], [4.0, 5.0, 7.0])  # 1, 2 and 3: standard deviation 1
    assert difference == pytest.approx(2)
    assert half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6), "t quantile of two degrees of freedom"
    assert math.isnan(paired([1.0], [2.0])[1])


@pytest.mark.parametrize("base", BASELINES)
def test_a_row_an_opinion_and_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], base: tuple[str, str]
) -> None:
    monkeypatch.setattr(bench_suspects, "RESULTS", tmp_path)
    results = {
        seed: {
            ("memory", "ours"): Ranked([40 + seed, 200, 400], 0.9, 0.6),
            base: Ranked([30, 150 + seed, 300], 0.8, 0.5),
            BASELINES[1]: Ranked([30, 150 + seed, 300], 0.8, 0.5),
        }
        for seed in range(3)
    }
    report(results, num_images=100, num_epochs=2, num_folds=0)
    ours, compared_with, *_ = capsys.readouterr().out.splitlines()
    assert ours.startswith("memory      ours     found_1_percent 41 (+11 +- 2.5), found_5_percent 200 (+49 +- 2.5)")
    assert "(" not in compared_with, "the baseline has no difference to itself"
    with (tmp_path / "suspects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(next(iter(results.values())))
    assert {row["compared_with"] for row in rows} == {" ".join(base)}
    assert (rows[0]["found_1_percent_difference"], rows[1]["found_1_percent_difference"]) == ("11", "")
