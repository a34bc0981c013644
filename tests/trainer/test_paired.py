"""DeLong equals a slow one pair by pair; paired differences are of the same images and the same draws."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import ConfigError
from trainer.evaluation.bootstrap import BootstrapConfig
from trainer.evaluation.paired import compare_runs, delong, midranks, paired
from trainer.evaluation.predictions import Predictions

CONFIG = BootstrapConfig(draws=400)


def predictions(seed: int, *, signal: float = 1.0) -> Predictions:
    rng = np.random.default_rng(0)
    targets_nC = (rng.random((400, 3)) < (0.4, 0.3, 0.5)).astype(np.float32)
    targets_nC[:, 1] = np.arange(400) < 3
    noise_nC = np.random.default_rng(seed).normal(size=(400, 3))
    return Predictions(
        findings=("Effusion", "Hernia", "No Finding"),
        sample_index_n=np.arange(400),
        image_id_n=[f"{i}.png" for i in range(400)],
        patient_id_n=[f"nih:{i // 2}" for i in range(400)],
        probs_nC=(signal * targets_nC + noise_nC).astype(np.float32),
        targets_nC=targets_nC,
        mask_nC=np.ones((400, 3), bool),
    )


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([2, 5, 1000]))
def test_delong_equals_its_definition_pair_by_pair(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    scores_2n, positive_n = rng.integers(0, levels, (2, 40)).astype(float), np.arange(40) < rng.integers(2, 38)
    won = [
        [[float(p > q) + 0.5 * (p == q) for q in scores[~positive_n]] for p in scores[positive_n]]
        for scores in scores_2n
    ]
    psi = np.array(won)
    expected_22 = np.cov(psi.mean(axis=2)) / positive_n.sum() + np.cov(psi.mean(axis=1)) / (~positive_n).sum()
    found = delong(scores_2n, positive_n)
    assert np.allclose(found.auroc_2, psi.mean(axis=(1, 2)), rtol=0, atol=1e-12)
    assert np.allclose(found.covariance_22, expected_22, rtol=0, atol=1e-12)
    below_n = (scores_2n[0][:, None] > scores_2n[0]).sum(axis=1)
    tied_n = (scores_2n[0][:, None] == scores_2n[0]).sum(axis=1)
    assert np.array_equal(midranks(scores_2n[0]), below_n + (tied_n + 1) / 2)


def test_delong_of_equal_models_rejects_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    positive_n = np.arange(200) < 60
    p_values = [delong(rng.normal(size=(2, 200)) + positive_n, positive_n).p_value for _ in range(1000)]
    assert 0.03 < np.mean(np.array(p_values) < 0.05) < 0.07


def test_a_run_against_itself_differs_by_nothing() -> None:
    for row in paired(predictions(1), predictions(1), CONFIG, min_positives=10):
        assert row.difference == 0
        assert row.interval in (None, (0.0, 0.0))
        assert row.delong_p in (None, 1.0)


def test_a_better_run_is_told_and_few_cases_tell_nothing() -> None:
    effusion, hernia, _, mean = paired(predictions(1, signal=2), predictions(2, signal=0.3), CONFIG, min_positives=10)
    assert effusion.interval is not None
    assert effusion.interval[0] > 0.1
    assert effusion.delong_p is not None
    assert effusion.delong_p < 1e-6
    assert (hernia.interval, hernia.delong_p) == (None, None)
    assert hernia.difference is not None
    assert (mean.difference, mean.interval) == (effusion.difference, effusion.interval)


def test_other_images_or_labels_are_refused() -> None:
    run = predictions(1)
    with pytest.raises(ConfigError, match="different targets"):
        paired(run, replace(run, targets_nC=1 - run.targets_nC), CONFIG, min_positives=10)
    with pytest.raises(ConfigError, match="different images"):
        paired(run, replace(run, image_id_n=run.image_id_n[::-1]), CONFIG, min_positives=10)
    with pytest.raises(ConfigError, match="draws patients"):
        paired(run, run, BootstrapConfig(resampling="stratified"), min_positives=10)


def test_two_folders_give_a_file_and_a_missing_one_the_command(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        predictions(seed).write(tmp_path / name / "p.parquet")
    found, path = compare_runs(tmp_path / "a", tmp_path / "b", "p.parquet", CONFIG, min_positives=10)
    content = json.loads(path.read_text())
    assert (path.name, content["second"]) == ("p-against-b.json", "b")
    assert [row["name"] for row in content["differences"]] == ["Effusion", "Hernia", "No Finding", "mean"]
    assert [row["difference"] for row in content["differences"]] == [row.difference for row in found]
    (tmp_path / "b" / "p.parquet").unlink()
    with pytest.raises(ConfigError, match="evaluate that run"):
        compare_runs(tmp_path / "a", tmp_path / "b", "p.parquet", CONFIG, min_positives=10)
