"""The benchmark of the bootstrap compares like with like, and says what was extrapolated."""

from pathlib import Path

import numpy as np
import pytest

from tools import bench_evaluation
from tools.bench_evaluation import by_scikit_learn, made_up, report
from trainer.evaluation.bootstrap import BootstrapConfig, bootstrap


def test_the_peer_computes_the_same_aurocs() -> None:
    case = made_up(6000, 3)
    ours_DC = bootstrap(*case, BootstrapConfig(draws=100)).auroc_DC[:4]
    assert np.allclose(by_scikit_learn(case, 4), ours_DC, rtol=0, atol=1e-9)


def test_target_ratio_and_extrapolation_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_evaluation, "RESULTS", tmp_path)
    report({"patient": [6.0], "scikit-learn": [600.0]}, made_up(30, 2), 2000, 5)
    ours, peer = capsys.readouterr().out.splitlines()
    assert "6.00 s (best 6.00), 100 x scikit-learn; target 5 s MISSED" in ours
    assert "extrapolated from 5 draws" in peer
    assert (tmp_path / "evaluation.csv").read_text().count("\n") == 3
