"""The demo runs from nothing to the comparison through the real command lines, and deletes only what is its own."""

import csv
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from manifests.errors import ConfigError
from tools.demo import FULL, MARKER, make_anew, rows
from tools.demo_comparison import CLEAN, METHODS, RECIPE, comparison_toml
from trainer.compare.plan import slug
from trainer.compare.plan_file import read_plan

ROOT = Path(__file__).parents[2]


def run_demo(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tools.demo", *arguments],
        cwd=ROOT,
        env=os.environ | {"CXR_HOME": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_quick_demo_from_nothing_to_the_comparison(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = run_demo("--quick", "--out", str(out), "--csv", str(tmp_path / "demo.csv"))
    assert done.returncode == 0, done.stderr
    assert "say nothing about the methods" in done.stdout
    assert str(out / "comparison" / "comparison.html") in done.stdout
    for method in METHODS:
        run = out / "comparison" / "runs" / f"films-{slug(method)}-seed-0"
        assert method in done.stdout
        assert (run / "report.html").is_file()
        entries = json.loads((run / "metrics.json").read_text())["evaluations"]
        assert [(entry["labels"], entry["checkpoint"]) for entry in entries] == [("clean", "best"), ("clean", "last")]
        loss = json.loads((run / "config.json").read_text())["loss"]["name"]
        assert loss == ("nvum" if "NVUM" in method else "bce")
        events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
        fitted = [event for event in events if event["event"] == "memorisation"]
        assert len(fitted) == 2, "an epoch each"
        assert all(event["num_wrong"] > 0 for event in fitted)
    comparison = json.loads((out / "comparison" / "comparison.json").read_text())
    assert all(len(run["wrong_fitted"]) == len(run["model_mean_auroc"]) == 2 for run in comparison["runs"])
    assert (out / "comparison" / "comparison.html").read_text().count('class="grid"') == 4  # validation, three of truth
    assert (out / "films.png").is_file()
    with (tmp_path / "demo.csv").open(newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == list(METHODS)


@pytest.mark.parametrize("clean_reference", [False, True])
def test_the_demos_comparison_reads_back_as_its_methods(tmp_path: Path, clean_reference: bool) -> None:
    file = tmp_path / "comparison.toml"
    file.write_text(
        comparison_toml(
            out=tmp_path / "out", pack=tmp_path / "pack", clean=tmp_path / "clean.parquet", seed=7, num_epochs=3,
            clean_reference=clean_reference,
        )
    )  # fmt: skip
    plan = read_plan(str(file))
    methods = {method.name: method.settings for method in plan.methods}
    reference = methods.pop(CLEAN, None)
    assert methods == METHODS
    assert (reference is not None) == clean_reference == (plan.compare.reference == CLEAN)
    recipe = tomllib.loads(RECIPE.read_text())
    for run in plan.runs():
        assert run.settings["optim"] == recipe["optim"]
        assert run.settings["run"] == recipe["run"] | {"epochs": 3, "seed": 7}
        assert (run.settings["data"].get("labels") is not None) == (run.method == CLEAN)
        assert run.settings["lab"]["clean_labels"] == str(tmp_path / "clean.parquet")


def test_a_row_of_results_has_the_means_of_its_method() -> None:
    tables = [
        {"checkpoint": checkpoint, "num_images": 50, "findings": [{"in_mean": True}, {"in_mean": False}],
         "methods": [{"method": "BCE", "mean": {"auroc": {"mean": mean}}}, {"method": "NVUM", "mean": None}]}
        for checkpoint, mean in (("best", 0.75), ("last", 0.7))
    ]  # fmt: skip
    runs = [{"method": name, "num_epochs": 3, "best_epoch": 2, "training_s": 1.0} for name in ("BCE", "NVUM")]
    bce, nvum = rows({"tables": tables, "runs": runs}, size=FULL, seed=4, quick=False)
    assert (bce["clean_test_mean_auroc_best"], bce["clean_test_mean_auroc_last"]) == ("0.75000", "0.70000")
    assert (nvum["clean_test_mean_auroc_best"], nvum["findings_in_mean"], nvum["seed"]) == ("n/a", 1, 4)


def test_a_folder_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    done = run_demo("--quick", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "not made by the demo" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_demos_own_folder_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    make_anew(folder)
    (folder / "old").mkdir()
    make_anew(folder)
    assert [path.name for path in folder.iterdir()] == [MARKER]


def test_a_file_in_the_place_of_the_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("a file")
    with pytest.raises(ConfigError, match="not made by the demo"):
        make_anew(tmp_path / "demo")
