"""The report is one file that needs nothing else, tells what is there, and says what cannot be trusted."""

import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import ConfigError
from manifests.findings import NO_FINDING
from trainer.evaluation.bootstrap import BootstrapConfig
from trainer.evaluation.intervals import with_intervals
from trainer.evaluation.metrics import measure
from trainer.evaluation.metrics_file import EvaluationEntry, add_evaluation
from trainer.evaluation.predictions import Predictions, read_predictions
from trainer.report.curves import curve_panels, thinned
from trainer.report.figures import Line, Panel, panel_grid
from trainer.report.run_report import write_report

FINDINGS = ("Effusion", "Pleural_Thickening", "Hernia", NO_FINDING)
NASTY = '<script>alert(1)</script> & "quotes"'
VOID = {"meta", "br", "img", "hr", "input", "link"}


class Balanced(HTMLParser):
    """Fails where a tag is closed that was not opened, except for those that HTML lets be implied."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open[-1] == "th" and tag != "th":
            self.open.pop()
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(path: Path) -> Balanced:
    parser = Balanced()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def add_training(run: Path, *, num_epochs: int = 3, auroc: float | None = 0.7) -> None:
    events: list[dict[str, object]] = [{"event": "start", "seed": 0, "num_train": 1234, "num_valid": 99, "torch": "2"}]
    for epoch in range(num_epochs):
        events.append(
            {"event": "train", "epoch": epoch, "step": 10 * epoch, "loss": 0.3, "bce": 0.3, "reg": -0.1, "lr": 0.001,
             "images_per_s": 1500.0 + epoch, "data_wait_fraction": 0.02, "elapsed_s": 1.0}
        )  # fmt: skip
        events.append(
            {"event": "epoch", "epoch": epoch, "step": 10 * epoch + 10, "loss": 0.2, "bce": 0.3, "reg": -0.1,
             "valid_mean_auroc": auroc, "valid_auroc": {"Effusion": auroc, "Hernia": None}, "epoch_s": 1.0,
             "images_per_s": 1500.0, "data_wait_fraction": 0.02}
        )  # fmt: skip
    events.append({"event": "warning", "message": NASTY})
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    config = {"model": {"name": "small"}, "loss": {"name": "nvum", "regulariser": "inner_product", "reg_weight": 3.0}}
    (run / "config.json").write_text(json.dumps(config))


def add_scores(
    run: Path, *, labels: str = "pack", num_images: int = 200, drawn: BootstrapConfig | None = None
) -> EvaluationEntry:
    """Evaluate random scores: 20 %, 4 positives, none, 50 %."""
    rng = np.random.default_rng(5)
    targets_nC = np.zeros((num_images, len(FINDINGS)), np.float32)
    for column, count in enumerate((num_images // 5, 4, 0, num_images // 2)):
        targets_nC[rng.choice(num_images, count, replace=False), column] = 1
    mask_nC = rng.random(targets_nC.shape) < 0.95
    mask_nC[:, 1] = True
    predictions = Predictions(
        findings=FINDINGS,
        sample_index_n=np.arange(num_images),
        image_id_n=[f"{i}.png" for i in range(num_images)],
        patient_id_n=[f"nih:{i}" for i in range(num_images)],
        probs_nC=rng.random(targets_nC.shape).astype(np.float32),
        targets_nC=np.where(mask_nC, targets_nC, 0),
        mask_nC=mask_nC,
    )
    file = f"predictions-nih-test-{labels}.parquet"
    predictions.write(run / file)
    metrics = measure(predictions.probs_nC, targets_nC, mask_nC, FINDINGS)
    if drawn is not None:
        metrics = with_intervals(
            metrics, predictions.probs_nC, targets_nC, mask_nC, predictions.patient_id_n, drawn, min_positives=10
        )
    entry = EvaluationEntry(
        dataset="nih", pack=None, split="test", labels=labels, checkpoint="best", step=30, num_images=num_images,
        left_out={}, predictions=file, metrics=metrics, bootstrap=drawn,
    )  # fmt: skip
    add_evaluation(run, entry)
    return entry


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "my <run>"
    folder.mkdir()
    return folder


def test_nothing_is_fetched_and_nothing_runs(run: Path) -> None:
    add_training(run)
    add_scores(run)
    page = parsed(write_report(run))
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "img", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert not re.search(r"(https?:)?//|data:|javascript:", value or ""), (tag, name, value)
            if name in {"href", "src", "xlink:href"}:
                assert (value or "").startswith("#")
    assert "@import" not in page.text
    assert "url(http" not in page.text


def test_every_reference_within_the_page_is_defined_in_it(run: Path) -> None:
    add_training(run)
    add_scores(run)
    page = parsed(write_report(run))
    text = (run / "report.html").read_text()
    defined = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    used = set(re.findall(r'xlink:href="#([^"]+)"|url\(#([^)]+)\)', text))
    assert used
    assert {one or other for one, other in used} <= defined
    roles = set(re.findall(r"var\(--([\w-]+)\)", text))
    assert roles <= set(re.findall(r"--([\w-]+):", text))


def test_the_same_run_gives_the_same_bytes(run: Path) -> None:
    add_training(run)
    add_scores(run)
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_text_from_outside_is_escaped(run: Path) -> None:
    add_training(run)
    add_scores(run, labels="experts<b>")
    page = parsed(write_report(run))
    assert NASTY in page.text
    assert "my <run>" in page.text
    assert "labels: experts<b>" in page.text
    assert "script" not in {tag for tag, _ in page.tags}


@pytest.mark.parametrize("parts", [{"training"}, {"evaluation"}, {"training", "evaluation"}])
def test_a_report_tells_what_is_there(run: Path, parts: set[str]) -> None:
    if "training" in parts:
        add_training(run)
    if "evaluation" in parts:
        add_scores(run)
    text = parsed(write_report(run)).text
    assert ("1,234 images for 3 epochs with NVUM (regulariser: inner product, weight 3.0)" in text) == (
        "training" in parts
    )
    assert ("Training loss" in text) == ("training" in parts)
    assert ("ROC: sensitivity" in text) == ("evaluation" in parts)
    assert ("Not evaluated yet" in text) == ("evaluation" not in parts)


def test_few_positives_are_called_noise_and_none_is_not_a_number(run: Path) -> None:
    entry = add_scores(run)
    text = parsed(write_report(run)).text
    assert "Pleural_Thickening: 4 positives, fewer than 10: this number is noise" in text
    assert "Effusion: " not in text
    assert "n/a" in text
    assert f"{entry.metrics.mean_auroc:.3f}" in text
    assert "Mean of 2 findings, without No Finding" in text


def test_intervals_stand_beside_their_numbers_and_are_explained(run: Path) -> None:
    entry = add_scores(run, drawn=BootstrapConfig(draws=200))
    effusion, hernia = entry.metrics.findings[0], entry.metrics.findings[2]
    assert effusion.auroc_interval is not None
    assert hernia.auroc_interval is None
    page = parsed(write_report(run))
    low, high = effusion.auroc_interval
    assert f"{effusion.auroc:.3f} ({low:.3f} to {high:.3f})" in page.text
    assert "Mean of 1 with at least 10 positives" in page.text
    assert "95% of 200 bootstrap draws of patients lie" in page.text
    assert len([tag for tag, _ in page.tags if tag == "u"]) == 2


def test_an_evaluation_of_an_earlier_version_is_still_shown(run: Path) -> None:
    add_scores(run)
    content = json.loads((run / "metrics.json").read_text())
    for entry in content["evaluations"]:
        del entry["bootstrap"], entry["supported"], entry["mean_auroc_interval"]
        del entry["mean_average_precision_interval"]
        for finding in entry["findings"]:
            del finding["auroc_interval"], finding["average_precision_interval"]
    (run / "metrics.json").write_text(json.dumps(content))
    text = parsed(write_report(run)).text
    assert "Mean of 2 findings" in text
    assert "bootstrap" not in text


def test_a_run_without_validation_has_no_validation_curve(run: Path) -> None:
    add_training(run, auroc=None)
    text = parsed(write_report(run)).text
    assert "Training loss" in text
    assert "on validation" not in text


def test_a_run_of_one_epoch_is_drawn(run: Path) -> None:
    add_training(run, num_epochs=1)
    assert "for 1 epoch with" in parsed(write_report(run)).text


def test_predictions_that_are_gone_cost_the_curves_alone(run: Path) -> None:
    entry = add_scores(run)
    (run / entry.predictions).unlink()
    text = parsed(write_report(run)).text
    assert "Mean of 2 findings" in text
    assert "ROC: sensitivity" not in text


@pytest.mark.parametrize("content", [b"not json", b"[1, 2]"])
def test_a_damaged_file_is_one_clear_error(run: Path, content: bytes) -> None:
    add_training(run)
    (run / "metrics.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"metrics\.json"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run"):
        write_report(tmp_path)


def test_predictions_come_back_as_they_were_written(run: Path) -> None:
    entry = add_scores(run)
    first = read_predictions(run / entry.predictions)
    first.write(run / "again.parquet")
    again = read_predictions(run / "again.parquet")
    assert asdict(again).keys() == asdict(first).keys()
    for name, value in asdict(first).items():
        assert np.array_equal(getattr(again, name), value)
    assert not first.mask_nC.all()


def test_a_file_that_is_no_predictions_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ConfigError, match=r"x\.parquet"):
        read_predictions(tmp_path / "x.parquet")


def test_areas_under_the_drawn_curves_are_the_numbers(run: Path) -> None:
    entry = add_scores(run, num_images=2000)
    predictions = read_predictions(run / entry.predictions)
    entries = {finding.finding: asdict(finding) for finding in entry.metrics.findings}
    roc, _ = curve_panels(predictions, entries)
    assert [panel.title for panel in roc] == ["Effusion", "Pleural Thickening", NO_FINDING]
    for panel in roc:
        curve = panel.lines[-1]
        expected = entries[panel.title.replace("Pleural T", "Pleural_T")]["auroc"]
        assert np.trapezoid(curve.y, curve.x) == pytest.approx(expected, abs=0.005)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), length=st.integers(1, 3000))
def test_a_thinned_curve_keeps_its_ends_and_leaves_no_gap(seed: int, length: int) -> None:
    steps = np.random.default_rng(seed).random((2, length))
    x, y = np.cumsum(steps, axis=1) / steps.sum(axis=1, keepdims=True)
    short_x, short_y = thinned(x, y)
    assert (short_x[0], short_y[0], short_x[-1], short_y[-1]) == (x[0], y[0], x[-1], y[-1])
    kept = {(a, b) for a, b in zip(short_x, short_y, strict=True)}
    assert kept <= {(a, b) for a, b in zip(x, y, strict=True)}
    assert len(short_x) <= 803


def test_colours_of_a_figure_are_those_of_the_page() -> None:
    svg = panel_grid(
        [Panel(title="t", lines=[Line(x=(0, 1), y=(0, 1))])], columns=1, width_in=2, height_in=2, label="l"
    )
    assert "var(--first)" in svg
    assert not re.findall(r"#0[0-9]0[0-9]0[0-9]\b", svg)
    assert "http" not in svg
