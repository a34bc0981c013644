"""Calibration, operating points and differences in the report: what is in the files, where it is, and only then."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from manifests.findings import NO_FINDING
from tests.trainer.test_report import NASTY, parsed
from trainer.evaluation.bootstrap import BootstrapConfig
from trainer.evaluation.calibration import CALIBRATION_BINS
from trainer.evaluation.metrics_file import EvaluationEntry, OperatingChoice, add_evaluation
from trainer.evaluation.operating import OperatingRule
from trainer.evaluation.paired import compare_runs
from trainer.evaluation.predictions import Predictions
from trainer.evaluation.scorecard import scorecard, thresholds
from trainer.report.calibration import reliability_panels
from trainer.report.run_report import write_report

FINDINGS = ("Effusion", "Pleural_Thickening", "Hernia", NO_FINDING)
DRAWN = BootstrapConfig(draws=100)
FILE = "predictions-nih-test.parquet"


def predictions(seed: int, num_images: int = 400) -> Predictions:
    """Of the four findings Hernia has no positive; the labels are the same for every seed."""
    targets_nC = (np.random.default_rng(0).random((num_images, 4)) < (0.3, 0.1, 0, 0.5)).astype(np.float32)
    noise_nC = np.random.default_rng(seed).random(targets_nC.shape)
    return Predictions(
        findings=FINDINGS,
        sample_index_n=np.arange(num_images),
        image_id_n=[f"{i}.png" for i in range(num_images)],
        patient_id_n=[f"nih:{i}" for i in range(num_images)],
        probs_nC=(0.2 * targets_nC + 0.6 * noise_nC).astype(np.float32),
        targets_nC=targets_nC,
        mask_nC=np.ones(targets_nC.shape, bool),
    )


def evaluated(run: Path, seed: int, choice: OperatingChoice | None) -> EvaluationEntry:
    run.mkdir(exist_ok=True)
    found = predictions(seed)
    found.write(run / FILE)
    chosen = {} if choice is None or choice.why_not else thresholds(predictions(seed + 1), choice.rule)
    entry = EvaluationEntry(
        dataset="nih", pack=None, split="test", labels="pack", checkpoint="best", step=30, num_images=400,
        left_out={}, predictions=FILE, metrics=scorecard(found, DRAWN, min_positives=10, chosen=chosen),
        bootstrap=DRAWN, operating=choice,
    )  # fmt: skip
    add_evaluation(run, entry)
    return entry


CHOSEN = OperatingChoice(rule=OperatingRule(), predictions="predictions-nih-valid.parquet", num_images=400)


def test_operating_points_are_shown_with_their_counts(tmp_path: Path) -> None:
    entry = evaluated(tmp_path / "run", 1, CHOSEN)
    text = re.sub(r"\s+", " ", parsed(write_report(tmp_path / "run")).text)
    assert "chosen on the run's 400 validation images (largest sensitivity + specificity, Youden's J)" in text
    assert "n/a: Hernia." in text
    point = entry.metrics.findings[0].operating_point
    assert point is not None
    assert f"{point.true_positives:,} of {point.true_positives + point.false_negatives:,}" in text
    assert f"{point.chosen.sensitivity:.3f}, {point.chosen.specificity:.3f}" in text


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (OperatingChoice(rule=OperatingRule(), predictions=None, num_images=0, why_not=NASTY), f"None: {NASTY}."),
        (None, None),
    ],
)
def test_without_thresholds_the_report_says_why_or_nothing(
    tmp_path: Path, choice: OperatingChoice | None, expected: str | None
) -> None:
    evaluated(tmp_path / "run", 1, choice)
    text = parsed(write_report(tmp_path / "run")).text
    assert ("Operating points" in text) == (expected is not None)
    assert expected is None or expected in text


def test_calibration_is_drawn_where_there_are_both_classes(tmp_path: Path) -> None:
    entry = evaluated(tmp_path / "run", 1, None)
    text = parsed(write_report(tmp_path / "run")).text
    for finding in entry.metrics.findings:
        if finding.calibration is not None:
            assert f"{finding.calibration.brier:.4f}" in text
            assert f"{finding.calibration.ece:.3f}" in text
    panels = reliability_panels(predictions(1), {FINDINGS[0], FINDINGS[1], NO_FINDING}, num_bins=CALIBRATION_BINS)
    assert [panel.title for panel in panels] == ["2 findings pooled", "Effusion", "Pleural Thickening", NO_FINDING]
    for panel in panels:
        assert panel.limits is not None
        for line in panel.lines:
            assert np.nanmax(line.x) <= panel.limits[1]
            assert np.nanmax(line.y) <= panel.limits[3]
    curve = panels[1].lines[-1]
    positives = predictions(1).targets_nC[:, 0].mean()
    assert np.mean(np.asarray(curve.y)) == pytest.approx(positives, abs=0.01)  # bins of equal mass


def test_differences_are_shown_as_long_as_they_are_of_these_predictions(tmp_path: Path) -> None:
    run, other = tmp_path / "one", tmp_path / "a <b>"
    evaluated(run, 1, None)
    evaluated(other, 2, None)
    assert "Difference to" not in parsed(write_report(run)).text
    differences, path = compare_runs(run, other, FILE, DRAWN, min_positives=10)
    page = parsed(write_report(run))
    assert "Difference to a <b>" in page.text
    assert differences[0].difference is not None
    assert f"{differences[0].difference:+.3f}" in page.text
    drawn = [attributes for tag, attributes in page.tags if tag == "td" and attributes.get("class") == "forest"]
    assert len(drawn) == len(differences)
    left = [float(found) for found in re.findall(r'<i style="left:([\d.-]+)%"></i>', (run / "report.html").read_text())]
    assert all(0 <= place <= 100 for place in left)
    assert len(left) == sum(row.interval is not None for row in differences)
    evaluated(run, 3, None)
    text = parsed(write_report(run)).text
    assert "are of earlier predictions" in text
    assert json.loads(path.read_text())["second"] == "a <b>"


def test_entries_of_earlier_versions_are_still_shown(tmp_path: Path) -> None:
    evaluated(tmp_path / "run", 1, CHOSEN)
    file = tmp_path / "run" / "metrics.json"
    content = json.loads(file.read_text())
    for entry in content["evaluations"]:
        for name in ("operating", "outputs", "calibration_bins", "mean_ece", "mean_brier"):
            del entry[name]
        for finding in entry["findings"]:
            del finding["calibration"], finding["operating_point"]
    file.write_text(json.dumps(content))
    text = parsed(write_report(tmp_path / "run")).text
    assert "Calibration" not in text
    assert "ROC: sensitivity" in text
