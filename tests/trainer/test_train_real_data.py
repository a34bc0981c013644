"""From the real release to numbers by the real commands; a run killed on the way has the bits of one that was not."""

import json
import os
import signal
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

import pipeline.cli
import trainer.cli
from manifests.expert import read_expert_file
from tests.trainer.tiny_runs import PROCESSES, assert_same_run, before_step, newest_checkpoint, own_events
from trainer import launch
from trainer.sections import Values
from trainer.step import TrainStep

PATIENCE_S = 300.0


def command(app: typer.Typer, *arguments: object) -> str:
    """What a command prints; it must succeed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module", params=["images_64", "images_1024"])
def pack(request: pytest.FixtureRequest, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack of 64 px of real images: 1,000 downscaled ones (21 of them RGBA), or 112 as released (2 RGBA)."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CXR_HOME", str(folder))
        root = ["--dataset", "nih", "--root", real_data / "nih", "--images", request.param]
        command(pipeline.cli.app, "build-manifest", *root)
        command(pipeline.cli.app, "pack", "--size", 64, "--workers", 2)
    command(pipeline.cli.app, "verify", folder / "packs" / "nih-64-raw")
    return folder / "packs" / "nih-64-raw"


@pytest.fixture(scope="module")
def asked(pack: Path) -> Values:
    """Two epochs of nvum with the small model."""
    return {
        "data": {"pack": str(pack)},
        "model": {"name": "small"},
        "loader": {"batch_size": 32},
        "run": {"epochs": 2, "num_threads": 1, "log_every_steps": 1, "checkpoint_every_steps": 2},
    }


@pytest.fixture(scope="module")
def undisturbed(asked: Values, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the run that nothing happens to."""
    return launch.train(asked, out=tmp_path_factory.mktemp("runs") / "undisturbed").run


def train_and_die(asked: Values, out: Path, num_steps: int) -> None:
    """Train until SIGKILL, which comes after `num_steps` steps."""
    die = partial(os.kill, os.getpid(), signal.SIGKILL)
    TrainStep.__call__ = before_step(num_steps, die, TrainStep.__call__)  # type: ignore[method-assign]
    launch.train(asked, out=out)


def test_a_killed_run_on_real_images_is_bitwise_the_undisturbed_one(
    asked: Values, undisturbed: Path, tmp_path: Path
) -> None:
    out, last_step = tmp_path / "killed", newest_checkpoint(undisturbed)["cursor"]["step"]
    process = PROCESSES.Process(target=train_and_die, args=(asked, out, last_step - 1))
    process.start()
    process.join(PATIENCE_S)
    assert process.exitcode == -signal.SIGKILL
    assert 0 < newest_checkpoint(out)["cursor"]["step"] < last_step - 1
    assert launch.resume({}, out=out).finished
    assert_same_run(undisturbed, out)


def test_the_loss_falls_and_only_training_rows_are_remembered(undisturbed: Path, pack: Path) -> None:
    epochs = [event for event in own_events(undisturbed) if event["event"] == "epoch"]
    assert epochs[1]["bce"] < epochs[0]["bce"]
    split = pq.read_table(pack / "manifest.parquet", columns=["split", "Consolidation"])
    in_training = [row["split"] == "train" and row["Consolidation"] != 1 for row in split.to_pylist()]
    written = newest_checkpoint(undisturbed)["memory"]["previous_NC"].abs().sum(dim=1) > 0
    assert written.tolist() == in_training


def test_evaluation_of_real_images_counts_the_test_rows(undisturbed: Path, pack: Path) -> None:
    command(trainer.cli.app, "evaluate", "--run", undisturbed)
    (entry,) = json.loads((undisturbed / "metrics.json").read_text())["evaluations"]
    table = pq.read_table(pack / "manifest.parquet", columns=["split", "Consolidation", "Effusion"]).to_pylist()
    tested = [row for row in table if row["split"] == "test" and row["Consolidation"] != 1]
    assert entry["num_images"] == len(tested)
    effusion = next(finding for finding in entry["findings"] if finding["finding"] == "Effusion")
    assert effusion["positives"] == sum(row["Effusion"] for row in tested)
    assert (undisturbed / "report.html").is_file()


def test_experts_findings_of_real_images_are_measured_or_not_available(
    undisturbed: Path, pack: Path, real_data: Path
) -> None:
    file = next((real_data / "nih").glob("google2019_nih-chest-xray-labels.csv*"))
    expert = read_expert_file(file)
    table = pl.read_parquet(pack / "manifest.parquet", columns=["image_id", "split"]).filter(split="test")
    seen = table.join(expert, on="image_id", how="inner")
    evaluated = CliRunner().invoke(trainer.cli.app, ["evaluate", "--run", str(undisturbed), "--expert", str(file)])
    if seen.is_empty():
        assert "expected a pack of ChestX-ray14" in str(evaluated.exception)
        return
    assert evaluated.exit_code == 0, evaluated.output
    entry = json.loads((undisturbed / "metrics.json").read_text())["evaluations"][-1]
    assert (entry["labels"], entry["num_images"]) == ("expert-findings", len(seen))
    for finding in entry["findings"]:
        positives, name = seen[finding["finding"]].sum(), finding["finding"]
        assert (finding["positives"], finding["negatives"]) == (positives, len(seen) - positives)
        has_value = 0 < positives < len(seen) and bool(entry["outputs"][name])
        assert (finding["auroc"] is not None) == has_value
        if min(positives, len(seen) - positives) < 5:
            assert finding["auroc_interval"] is None
    assert "Fracture: no output of this label space" in evaluated.output
