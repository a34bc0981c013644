"""A comparison through the real command line: what fails is shown, what is done is left alone, what changed refused."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from manifests.errors import ConfigError
from manifests.expert import read_expert_file
from pipeline.pack import Pack
from tests.factories import image_names, make_pack, patient_splits
from tests.trainer.expert_findings import write_findings
from trainer.compare.comparison import compare
from trainer.compare.files import write_comparison
from trainer.compare.plan_file import read_plan
from trainer.compare.results import read_results
from trainer.compare.schedule import is_up_to_date
from trainer.compare.standing import Standing, refuse_missing_tests, set_aside, standing_of
from trainer.events import read_events

NUM_IMAGES = 160

PLAN = """
[compare]
out = "{out}"
seeds = [5]
min_positives = 2
bootstrap = 200
[base.model]
name = "small"
[base.loader]
batch_size = 16
[base.run]
epochs = {epochs}
device = "cpu"
num_threads = 1
[[data]]
name = "nih"
pack = "{pack}"
[[test]]
name = "films"
split = "train"
"""
BCE = '[[method]]\nname = "BCE"\n[method.loss]\nname = "bce"\n'
WITH_EMA = '[[method]]\nname = "BCE + EMA"\n[method.loss]\nname = "bce"\n[method.ema]\nenabled = "on"\n'
DIVERGING = '[[method]]\nname = "diverging"\n[method.loss]\nname = "bce"\n[method.optim]\nlr = 1e30\n'


def run_compare(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "trainer.cli", "compare", *arguments], capture_output=True, text=True, check=False
    )


def write_plan(folder: Path, pack: Pack, *methods: str, epochs: int = 2) -> Path:
    file = folder / "plan.toml"
    file.write_text(PLAN.format(out=folder / "out", pack=pack.folder, epochs=epochs) + "".join(methods))
    return file


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return make_pack(tmp_path_factory.mktemp("data"), num_images=NUM_IMAGES)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, pack: Pack) -> "tuple[Path, subprocess.CompletedProcess[str]]":
    """A comparison of two methods and one whose loss leaves the numbers; tests take copies."""
    folder = tmp_path_factory.mktemp("compared")
    return folder, run_compare(str(write_plan(folder, pack, BCE, WITH_EMA, DIVERGING)), "--jobs", "2")


@pytest.fixture
def copy(ended: "tuple[Path, subprocess.CompletedProcess[str]]", tmp_path: Path, pack: Pack) -> Path:
    """The folder of the comparison, with a plan that points to it."""
    folder = shutil.copytree(ended[0], tmp_path / "copy")
    write_plan(folder, pack, BCE, WITH_EMA, DIVERGING)
    return folder


def test_one_run_fails_and_the_others_come_to_their_end(
    ended: "tuple[Path, subprocess.CompletedProcess[str]]",
) -> None:
    folder, done = ended
    assert done.returncode == 1, done.stderr
    assert "nih-diverging-seed-5 FAILED" in done.stderr
    assert "not a finite number" in done.stderr
    assert "1 runs failed: nih-diverging-seed-5" in done.stderr
    for name in ("nih-bce-seed-5", "nih-bce-ema-seed-5"):
        run = folder / "out" / "runs" / name
        assert json.loads((run / "config.json").read_text())["run"]["seed"] == 5
        assert (run / "report.html").is_file()
    assert re.search(r"BCE \+ EMA +│ +1 │ +0\.\d{3}", done.stdout)
    page = (folder / "out" / "comparison.html").read_text()
    assert "1 of 3 runs are not finished: nih-diverging-seed-5" in page


def test_the_numbers_are_those_of_the_evaluations(ended: "tuple[Path, subprocess.CompletedProcess[str]]") -> None:
    out = ended[0] / "out"
    content = json.loads((out / "comparison.json").read_text())
    runs = {run["method"]: out / "runs" / run["name"] for run in content["runs"]}
    for table in content["tables"]:
        in_mean = [finding["finding"] for finding in table["findings"] if finding["in_mean"]]
        assert "No Finding" not in in_mean
        assert in_mean
        means = {}
        for method in table["methods"][:2]:
            entries = json.loads((runs[method["method"]] / "metrics.json").read_text())["evaluations"]
            (entry,) = (entry for entry in entries if entry["checkpoint"] == table["checkpoint"])
            auroc = {finding["finding"]: finding["auroc"] for finding in entry["findings"]}
            means[method["method"]] = np.mean([auroc[name] for name in in_mean])
            assert method["mean"]["auroc"]["mean"] == pytest.approx(means[method["method"]], abs=1e-12)
            assert method["findings"][in_mean[0]]["auroc"]["mean"] == pytest.approx(auroc[in_mean[0]], abs=1e-12)
        difference = table["methods"][1]["mean"]["difference"]["mean"]
        assert difference == pytest.approx(means["BCE + EMA"] - means["BCE"], abs=1e-12)
        assert table["methods"][0]["mean"]["difference"] is None
        assert table["methods"][2]["mean"] is None
    with (out / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows if row["finding"] == "mean"] == ["BCE", "BCE + EMA"] * 2


def test_what_is_done_is_left_alone_and_what_failed_is_tried_again(copy: Path) -> None:
    plan = read_plan(str(copy / "plan.toml"))
    runs = standing_of(plan)
    assert [run.standing for run in runs] == [Standing.FINISHED, Standing.FINISHED, Standing.UNFINISHED]
    assert [is_up_to_date(plan, run) for run in runs] == [True, True, False]
    predictions = next(iter((runs[0].run.folder).glob("predictions-*-last.parquet")))
    os.utime(predictions, ns=(0, 0))
    assert not is_up_to_date(plan, runs[0])  # older than its checkpoint


def test_the_same_runs_give_the_same_bytes(copy: Path) -> None:
    plan = read_plan(str(copy / "plan.toml"))
    contents = []
    for _ in range(2):
        results = read_results(plan)
        contents.append([path.read_bytes() for path in write_comparison(plan, results, compare(plan, results))])
    assert contents[0] == contents[1]


def test_a_run_that_the_plan_has_changed_is_refused_and_may_be_restarted(copy: Path) -> None:
    file = copy / "plan.toml"
    file.write_text(file.read_text().replace("batch_size = 16", "batch_size = 8"))
    plan = read_plan(str(file))
    with pytest.raises(ConfigError) as refused:
        standing_of(plan)
    assert "3 runs in" in str(refused.value)
    assert "nih-bce-seed-5: loader.batch_size=8, it was begun with 16" in str(refused.value)
    assert "--restart NAME" in str(refused.value)
    with pytest.raises(ConfigError, match=r"--restart nothing-\*: no such run"):
        set_aside(plan, ["nothing-*"])
    moved = set_aside(plan, ["nih-bce-*", "nih-div*"])
    assert [path.name for path in moved] == ["nih-bce-seed-5-1", "nih-bce-ema-seed-5-1", "nih-diverging-seed-5-1"]
    assert all((path / "config.json").is_file() for path in moved)
    assert {run.standing for run in standing_of(plan)} == {Standing.NEW}


def test_a_pack_of_other_images_is_refused(copy: Path, tmp_path: Path, pack: Pack) -> None:
    other = make_pack(tmp_path / "other", num_images=80)
    file = copy / "plan.toml"
    file.write_text(file.read_text().replace(str(pack.folder), str(other.folder)))
    with pytest.raises(ConfigError, match="nih-bce-seed-5: checkpoint of another pack"):
        standing_of(read_plan(str(file)))


def test_test_sets_that_are_not_there_are_refused_before_anything_is_trained(copy: Path) -> None:
    file = copy / "plan.toml"
    for key, message in (
        ("labels", "no such file of labels"),
        ("expert", "no such file of labels"),
        ("pack", "test set 'other'"),
    ):
        plan = read_plan(str(file), out=copy / "else")
        assert plan.out == copy / "else"
        wrong = file.with_name("wrong.toml")
        wrong.write_text(f'{file.read_text()}\n[[test]]\nname = "other"\n{key} = "nowhere"\n')
        with pytest.raises(Exception, match=message):
            refuse_missing_tests(read_plan(str(wrong)))


def test_experts_findings_are_a_test_set_of_their_own(copy: Path) -> None:
    """Added to a comparison that is done: nothing is trained again, and what too few have is no number."""
    splits = zip(image_names(NUM_IMAGES), patient_splits(NUM_IMAGES), strict=True)
    tested = [name for name, split in splits if split == "test"]
    answers = write_findings(copy / "experts.csv", tested, num_present={"Pneumothorax": 3, "Nodule or mass": 14})
    file = copy / "plan.toml"
    file.write_text(file.read_text().replace(DIVERGING, "") + f'[[test]]\nname = "experts"\nexpert = "{answers}"\n')
    checkpoints = sorted((copy / "out" / "runs").glob("*/checkpoints/*"))
    before = [path.stat().st_mtime_ns for path in checkpoints]
    done = run_compare(str(file), "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert [path.stat().st_mtime_ns for path in checkpoints] == before
    assert f"experts: only {len(set(map(patient_of, tested)))} patients" in done.stderr

    content = json.loads((copy / "out" / "comparison.json").read_text())
    (table, _) = (table for table in content["tables"] if table["test"] == "experts")
    expected = read_expert_file(answers).filter(pl.col("image_id").is_in(tested))
    assert table["num_images"] == len(tested)
    assert [finding["finding"] for finding in table["findings"]] == [
        "Pneumothorax",
        "Airspace opacity",
        "Nodule or mass",
    ]
    for finding in table["findings"]:  # nvum-nih has no output that means a fracture
        have_it = expected.filter(pl.col(finding["finding"]) == 1)["image_id"].to_list()
        assert finding["positives"] == len(have_it)
        assert finding["patients"] == len(set(map(patient_of, have_it)))
        assert finding["is_measured"] == finding["in_mean"] == (finding["finding"] != "Pneumothorax")
    for method, run in (("BCE", "nih-bce-seed-5"), ("BCE + EMA", "nih-bce-ema-seed-5")):
        (row,) = (row for row in table["methods"] if row["method"] == method)
        predictions = pl.read_parquet(copy / "out" / "runs" / run / "predictions-nih-test-expert-findings.parquet")
        joined = predictions.join(expected, on="image_id", maintain_order="left")
        auroc = {
            name: roc_auc_score(joined[name], joined[f"prob_{name}"]) for name in ("Airspace opacity", "Nodule or mass")
        }
        assert {name: of["auroc"]["mean"] for name, of in row["findings"].items()} == pytest.approx(auroc, abs=1e-9)
        assert row["mean"]["auroc"]["mean"] == pytest.approx(np.mean(list(auroc.values())), abs=1e-9)
    page = (copy / "out" / "comparison.html").read_text()
    assert "On experts" in page
    assert re.search(r"<td>Pneumothorax</td><td>3</td><td>\d</td><td>n/a</td><td class=\"cell\">n/a</td>", page)


def patient_of(image: str) -> str:
    return image.partition("_")[0]


def test_a_comparison_without_runs_is_a_page_to_be_filled(tmp_path: Path, pack: Pack) -> None:
    plan = read_plan(str(write_plan(tmp_path, pack, BCE, WITH_EMA)))
    results = read_results(plan)
    *_, page = write_comparison(plan, results, compare(plan, results))
    assert "0 of 2" in page.read_text()
    assert "Not measured yet" in page.read_text()


def test_stopped_and_begun_again_it_goes_on_where_it_was(tmp_path: Path, pack: Pack) -> None:
    file = write_plan(tmp_path, pack, BCE, epochs=30)
    run = tmp_path / "out" / "runs" / "nih-bce-seed-5"
    with subprocess.Popen(
        [sys.executable, "-m", "trainer.cli", "compare", str(file)], stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and b'"epoch"' not in events_of(run):
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "the same command goes on where it was" in said
    assert b'{"event": "end"' not in events_of(run)
    done = run_compare(str(file))
    assert done.returncode == 0, done.stderr
    kinds = [event["event"] for event in read_events(run / "events.jsonl")]
    assert (kinds.count("stop"), kinds.count("resume"), kinds.count("end")) == (1, 1, 1)
    assert kinds.count("epoch") == 30


def events_of(run: Path) -> bytes:
    return (run / "events.jsonl").read_bytes() if (run / "events.jsonl").is_file() else b""


def test_a_dry_run_lists_every_run_and_writes_nothing(tmp_path: Path, pack: Pack) -> None:
    done = run_compare(str(write_plan(tmp_path, pack, BCE, WITH_EMA)), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert re.search(r"nih-bce-ema-seed-5 +│ new +│ +\d+ │ +2 │", done.stdout)
    assert not (tmp_path / "out").exists()
