"""The page of a comparison: made-up runs, every number where it belongs, nothing fetched, nothing that runs."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manifests.findings import NO_FINDING
from trainer.compare.comparison import Table, compare
from trainer.compare.curves import curves_section
from trainer.compare.dot_plot import DotPanel, DotRow, Layout, dot_plot, nice_ticks
from trainer.compare.files import as_values
from trainer.compare.page import comparison_html
from trainer.compare.plan import CheckpointName, CompareConfig, DataSet, Method, Plan, TestSet
from trainer.compare.results import RunResult
from trainer.compare.text import verdict, what_is_measured
from trainer.evaluation.predictions import Predictions
from trainer.report.record import RunRecord

FINDINGS = ("Mass", "Nodule", "Hernia", NO_FINDING)
SKILL = {"A <b>": 0.4, "B & C": 1.2, "clean": 2.0}
"""Method -> how far apart the scores of both classes are, in standard deviations."""

SEEDS = (0, 1, 2)


def predictions(method: str, seed: int, *, num_images: int = 300, skip: int = 0) -> Predictions:
    """Two images a patient; one Hernia."""
    rng = np.random.default_rng(9)
    targets_nC = (rng.random((num_images, 4)) < 0.3).astype(np.float32)
    targets_nC[:, 2] = 0
    targets_nC[40, 2] = 1
    noise_nC = np.random.default_rng((seed, len(method))).normal(0, 1, (num_images, 4))
    kept = slice(skip, None)
    names = [f"{number:04d}" for number in range(num_images)]
    return Predictions(
        findings=FINDINGS,
        sample_index_n=np.arange(num_images)[kept],
        image_id_n=names[kept],
        patient_id_n=[f"p{number // 2}" for number in range(num_images)][kept],
        probs_nC=(targets_nC * SKILL[method] + noise_nC).astype(np.float32)[kept],
        targets_nC=targets_nC[kept],
        mask_nC=np.ones((num_images, 4), np.bool_)[kept],
    )


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan(
        file=Path("plan.toml"),
        out=Path("the-comparison"),
        compare=CompareConfig(out="x", seeds=SEEDS, reference="clean", checkpoints=("best",), bootstrap=300),
        data=(DataSet(name="", settings={}),),
        methods=tuple(Method(name=name, settings={"loss": {"name": "bce"}}) for name in SKILL),
        tests=(TestSet(name="films"),),
        base={},
    )


def results(plan: Plan, *, without: str = "", skip: int = 0) -> list[RunResult]:
    """Every run but one, the first method's on fewer images where asked."""
    found = []
    best: CheckpointName = "best"
    for run in plan.runs():
        epochs = [{"event": "epoch", "epoch": epoch, "valid_mean_auroc": 0.5 + 0.1 * epoch, "epoch_s": 30.0}
                  for epoch in range(3)]  # fmt: skip
        fitted: list[dict[str, Any]] = [
            {"event": "memorisation", "epoch": epoch, **recorded(run.method, epoch)} for epoch in range(3)
        ]
        events = (*epochs, *fitted, {"event": "end", "best_epoch": 2})
        record = RunRecord(folder=run.folder, config={}, evaluations=(), events=events)
        fewer = skip if run.method == "A <b>" else 0
        measured = {("films", best): predictions(run.method, run.seed, skip=fewer)}
        if run.name == without:
            record, measured = None, {}  # type: ignore[assignment]
        found.append(RunResult(run=run, is_finished=record is not None, record=record, measured=measured))
    return found


def recorded(method: str, epoch: int) -> dict[str, float | None]:
    """What a memorisation event has; the reference has no wrong labels."""
    share = None if method == "clean" else 0.1 * epoch
    return {"wrong_fitted": share, "wrong_present_fitted": share, "model_mean_auroc": 0.6 + 0.1 * epoch}


def only(tables: list[Table]) -> Table:
    (table,) = tables
    return table


def test_the_mean_is_over_the_same_findings_for_every_run(plan: Plan) -> None:
    table = only(compare(plan, results(plan)))
    assert table.findings is not None
    assert table.findings.in_mean == (True, True, False, False)  # one Hernia; No Finding never
    assert table.findings.positives[2] == table.findings.patients[2] == 1
    assert table.findings.is_measured == (True, True, False, True)
    assert all(list(method.findings) == ["Mass", "Nodule", NO_FINDING] for method in table.methods)
    assert table.notes == ()
    assert (table.num_images, table.num_patients) == (300, 150)
    worse, better, clean = (method.mean for method in table.methods)
    assert worse is not None
    assert better is not None
    assert clean is not None
    assert worse.auroc.mean < better.auroc.mean < clean.auroc.mean
    assert list(worse.by_seed) == list(SEEDS)
    assert better.auroc.sd == pytest.approx(np.std(list(better.by_seed.values()), ddof=1))


def test_a_finding_that_a_run_has_no_output_for_is_nobodys(plan: Plan) -> None:
    made = results(plan)
    made[-1].measured["films", "best"].probs_nC[:, 0] = np.nan  # as experts' findings that a label space lacks
    table = only(compare(plan, made))
    assert table.findings is not None
    assert table.findings.names == FINDINGS[1:]


def test_a_difference_is_that_of_the_same_seeds_and_a_share_that_of_the_means(plan: Plan) -> None:
    table = only(compare(plan, results(plan, without="b-c-seed-1")))
    worse, better, clean = (method.mean for method in table.methods)
    assert worse is not None
    assert better is not None
    assert clean is not None
    assert better.difference is not None
    by_seed = [better.by_seed[seed] - worse.by_seed[seed] for seed in (0, 2)]
    assert better.difference.num_seeds == 2
    assert better.differences_by_seed == pytest.approx(by_seed)
    assert better.difference.mean == pytest.approx(np.mean(by_seed))
    gap = np.mean([clean.by_seed[seed] - worse.by_seed[seed] for seed in (0, 2)])
    assert better.share is not None
    assert better.share.share == pytest.approx(np.mean(by_seed) / gap)
    assert worse.share is None
    assert clean.share is None


def test_runs_on_other_images_have_no_interval_over_patients_and_it_is_said(plan: Plan) -> None:
    table = only(compare(plan, results(plan, skip=10)))
    better = table.methods[1].mean
    assert better is not None
    assert better.difference is not None
    assert better.difference.interval is None
    assert better.difference.seeds_interval is not None
    assert "not all measured on the same images" in table.notes[0]


def test_few_patients_are_said_and_no_interval_leaves_what_an_auroc_can_be(plan: Plan) -> None:
    made = results(plan)
    for result in made:  # 20 patients and two seeds that disagree
        whole = result.measured["films", "best"]
        sign = -1 if result.run.seed == 1 and result.run.method == "B & C" else 1
        result.measured["films", "best"] = replace(
            whole,
            **{name: getattr(whole, name)[:40] for name in ("sample_index_n", "image_id_n", "patient_id_n")},
            **{name: getattr(whole, name)[:40] for name in ("targets_nC", "mask_nC")},
            probs_nC=sign * whole.probs_nC[:40],
        )
    table = only(compare(plan, [result for result in made if result.run.seed < 2]))
    assert table.notes == ("films: only 20 patients; what the intervals say of other patients is itself a rough guess",)
    better = table.methods[1].mean
    assert better is not None
    assert better.difference is not None
    assert better.auroc.interval == better.auroc.seeds_interval == (0, 1)
    assert better.difference.interval == (-1, 1)
    assert "only 20 patients" in comparison_html(plan, made, [table])


def test_without_a_finding_in_the_mean_this_is_what_is_said(plan: Plan) -> None:
    strict = replace(plan, compare=replace(plan.compare, min_positives=200))
    table = only(compare(strict, results(strict)))
    assert all(method.mean is None for method in table.methods)
    assert verdict(strict, table) == (
        "At the best epoch on validation there is no mean to compare: no finding has 200 images with and without it, "
        "of 5 patients each."
    )
    assert "mean AUROC of no finding, 300 images of 150 patients" in what_is_measured(table)
    assert 'class="beside"' not in comparison_html(strict, results(strict), [table]), "nothing to draw"


def test_a_verdict_says_what_the_numbers_say(plan: Plan) -> None:
    said = verdict(plan, only(compare(plan, results(plan))))
    assert re.fullmatch(r"At the best epoch on validation, B & C \(\+0\.\d{3}\) is above A <b>\.", said)


def test_the_page_runs_nothing_fetches_nothing_and_names_everything(plan: Plan) -> None:
    made = results(plan, without="clean-seed-2")
    page = comparison_html(plan, made, compare(plan, made))
    assert page == comparison_html(plan, made, compare(plan, made))
    assert "<script" not in page
    assert re.findall(r'(?:src|href)="(?!runs/)[^"]*"', page) == []
    assert "http" not in page.replace("http://www.w3.org/", "")
    assert "A <b>" not in page
    for text in (
        "A &lt;b&gt;",
        "B &amp; C",
        "Mass, Nodule",
        "1 of 9 runs are not finished: clean-seed-2",
        "Fieller",
        "by heart",
    ):
        assert text in page
    for run in plan.runs():
        assert run.name in page
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        ET.fromstring(svg)


def test_curves_of_the_truth_are_drawn_for_whoever_has_wrong_labels(plan: Plan) -> None:
    made = results(plan)
    section = curves_section(plan, made)
    panels = [figure.count("<svg") for figure in section.split('class="grid"')[1:]]
    assert panels == [3, 3, 2, 2]  # validation, AUROC against the truth, wrong labels, those that say "present"
    values = as_values(plan, made, [])["runs"]
    assert [run["wrong_fitted"] for run in values if run["method"] == "clean"] == [[None] * 3] * len(SEEDS)
    assert values[0]["model_mean_auroc"] == pytest.approx([0.6, 0.7, 0.8])


def test_a_dot_plot_draws_every_seed_and_interval() -> None:
    rows = [DotRow(mean=0.2, interval=(0.1, 0.3), seeds=(0.1, 0.3)), DotRow(mean=None, interval=None)]
    svg = ET.fromstring(dot_plot(["one", "none"], [DotPanel(title="t", rows=rows, zero=True)], label="what"))
    radii = [float(circle.attrib["r"]) for circle in svg.iter("circle")]
    assert len(radii) == 3
    texts = [text.text for text in svg.iter("text")]
    assert {"one", "none", "t", "+0.200", "0"} <= set(texts)


@pytest.mark.parametrize(("layout", "wide", "high", "named"), [("beside", 2, 1, 1), ("stacked", 1, 2, 2)])
def test_panels_lie_beside_each_other_or_one_below_the_other(layout: Layout, wide: int, high: int, named: int) -> None:
    rows = [DotRow(mean=0.2, interval=(0.1, 0.3)), DotRow(mean=0.4, interval=None)]
    panels = [DotPanel(title=title, rows=rows) for title in ("first", "second")]
    one, both = (
        ET.fromstring(dot_plot(["a", "b"], shown, layout=layout, label="what")) for shown in (panels[:1], panels)
    )
    width, height = (float(value) for value in both.attrib["viewBox"].split()[2:])
    alone_px, alone_high_px = (float(value) for value in one.attrib["viewBox"].split()[2:])
    assert (round(width / alone_px), height / alone_high_px) == (wide, high)
    texts = [text.text for text in both.iter("text")]
    assert texts.count("a") == texts.count("b") == named
    means = [float(circle.attrib["cx"]) for circle in both.iter("circle")]
    assert means[0] < means[1] <= alone_px
    assert means[:2] == means[2:]


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.9), (-0.031, 0.002), (0.7, 0.7001), (-3.0, 100.0)])
def test_ticks_are_few_round_and_within(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 6
    assert low - 1e-9 <= ticks[0] < ticks[-1] <= high + 1e-9
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])
