"""The demo runs from nothing to the table through the real command lines, and deletes only what is its own."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from manifests.errors import ConfigError
from tools.demo import MARKER, make_anew, verdict
from tools.demo_methods import METHODS, folder_name
from tools.demo_runs import DemoResult, DemoRun, shown

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


def test_quick_demo_from_nothing_to_the_table(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = run_demo("--quick", "--out", str(out), "--csv", str(tmp_path / "demo.csv"))
    assert done.returncode == 0, done.stderr
    assert "say nothing about the methods" in done.stdout
    for method in METHODS:
        run = out / "cxr-data" / "runs" / folder_name(method)
        assert method in done.stdout
        assert (run / "report.html").is_file()
        entries = json.loads((run / "metrics.json").read_text())["evaluations"]
        assert [(entry["labels"], entry["checkpoint"]) for entry in entries] == [("clean", "best"), ("clean", "last")]
        loss = json.loads((run / "config.json").read_text())["loss"]["name"]
        assert loss == ("nvum" if "NVUM" in method else "bce")
    assert (out / "films.png").is_file()
    with (tmp_path / "demo.csv").open(newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == list(METHODS)


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


def result(method: str, best: float | None, last: float | None) -> DemoResult:
    run = DemoRun(method=method, folder=Path(), arguments=(), evaluation=())
    return DemoResult(
        run=run, auroc={"best": best, "last": last}, num_findings=13, num_images=1, best_epoch=1, num_epochs=1,
        elapsed_s=1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("best", "last", "expected"),
    [(0.8, 0.7, "0.100 above BCE + EMA at the best epoch on validation and 0.050 below BCE + EMA at the last epoch"),
     (0.7, None, "nothing to compare")],
)  # fmt: skip
def test_the_verdict_says_what_the_numbers_say(best: float, last: float | None, expected: str) -> None:
    sentence = verdict([result("BCE + EMA", 0.7, 0.75), result("NVUM elementwise", best, last)])
    assert expected in sentence
    assert (shown(0.12345), shown(None)) == ("0.123", "n/a")
