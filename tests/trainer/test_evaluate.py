"""Evaluation of a run: every number can be recomputed from its predictions, and it is about the right images."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from manifests.errors import ConfigError, ManifestError
from manifests.findings import NO_FINDING
from pipeline.errors import PackError
from pipeline.pack import Pack
from tests.factories import make_manifest, make_pack
from trainer import launch
from trainer.checkpoint import read_checkpoint
from trainer.evaluation.bootstrap import BootstrapConfig
from trainer.evaluation.evaluate import EvaluateConfig, evaluate
from trainer.evaluation.predictions import read_predictions
from trainer.models.registry import build_model
from trainer.report.run_report import write_report
from trainer.sections import Values
from trainer.trained_model import load_trained_model

NUM_IMAGES = 96
SETTINGS: Values = {
    "model": {"name": "small"},
    "loss": {"name": "nvum"},
    "loader": {"batch_size": 16},
    "run": {"epochs": 2, "num_threads": 1, "device": "cpu"},
}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return make_pack(tmp_path_factory.mktemp("data"), num_images=NUM_IMAGES)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, pack: Pack) -> Path:
    """A run of two epochs; tests take copies."""
    settings = {**SETTINGS, "data": {"pack": str(pack.folder)}}
    return launch.train(settings, out=tmp_path_factory.mktemp("runs") / "trained").run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def other_labels(folder: Path, name: str, **columns: pa.Array) -> Path:
    """The manifest of the pack under another name, with some columns changed."""
    folder.mkdir()
    source = make_manifest(folder, num_images=NUM_IMAGES)
    table = pq.read_table(source)
    for column, values in columns.items():
        position = table.column_names.index(column)
        table = table.set_column(position, table.schema.field(position).name, values)
    path = folder / f"{name}.parquet"
    pq.write_table(table, path)
    return path


def metrics_of(run: Path) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = json.loads((run / "metrics.json").read_text())["evaluations"]
    return entries


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_every_number_equals_scikit_learn_on_the_predictions(run: Path, pack: Pack, split: str) -> None:
    entry = evaluate(EvaluateConfig(run=run, split=split))
    table = pl.read_parquet(run / entry.predictions)
    assert len(table) == entry.num_images
    values = []
    for finding in entry.metrics.findings:
        both = table.select(pl.col(f"prob_{finding.finding}"), pl.col(f"target_{finding.finding}")).drop_nulls()
        probs, targets = both.to_numpy().T
        assert (finding.positives, finding.negatives) == ((targets == 1).sum(), (targets == 0).sum())
        if 0 < finding.positives < len(targets):
            assert finding.auroc == pytest.approx(roc_auc_score(targets, probs), abs=1e-9)
            assert finding.average_precision == pytest.approx(average_precision_score(targets, probs), abs=1e-9)
            if finding.finding != NO_FINDING:
                values.append(roc_auc_score(targets, probs))
        else:
            assert finding.auroc is None
    assert entry.metrics.mean_auroc == pytest.approx(np.mean(values))
    assert entry.metrics.num_findings_in_mean == len(values)
    assert json.loads(json.dumps(entry.as_values())) == metrics_of(run)[0]


def test_predictions_are_of_the_split_and_bear_the_manifests_names_and_labels(run: Path, pack: Pack) -> None:
    predictions = read_predictions(run / evaluate(EvaluateConfig(run=run)).predictions)
    rows = pack.manifest().table.to_pylist()
    expected = [row for row in rows if row["split"] == "test" and row["Consolidation"] != 1]
    assert predictions.image_id_n == [row["image_id"] for row in expected]
    assert predictions.patient_id_n == [row["patient_id"] for row in expected]
    assert [rows[index]["image_id"] for index in predictions.sample_index_n] == predictions.image_id_n
    for column, name in enumerate(predictions.findings):
        assert predictions.targets_nC[:, column].tolist() == [row[name] for row in expected]


def test_the_teacher_is_what_is_evaluated(run: Path) -> None:
    module = load_trained_model(run, checkpoint="last").module
    content = read_checkpoint(load_trained_model(run, checkpoint="last").checkpoint)
    teacher = build_model("small", 14, input_size_px=32)
    teacher.load_state_dict(content["teacher"])
    images_B1HW = torch.randn(2, 1, 32, 32)
    assert torch.equal(module(images_B1HW), teacher.eval()(images_B1HW))
    assert not torch.equal(content["teacher"]["classifier.weight"], content["student"]["classifier.weight"])


def test_other_labels_are_joined_by_image_and_missing_ones_masked(run: Path, tmp_path: Path) -> None:
    own = read_predictions(run / evaluate(EvaluateConfig(run=run)).predictions)
    flipped = pa.array([i % 2 if i % 3 else None for i in range(NUM_IMAGES)], pa.int8())
    path = other_labels(tmp_path / "other", "experts", Effusion=flipped)
    # Another order of the rows must not matter.
    table = pq.read_table(path)
    pq.write_table(table.take(pa.array(range(NUM_IMAGES - 1, -1, -1))), path)
    entry = evaluate(EvaluateConfig(run=run, labels=path))
    assert (entry.labels, entry.predictions) == ("experts", "predictions-nih-test-experts.parquet")
    theirs = read_predictions(run / entry.predictions)
    column = theirs.findings.index("Effusion")
    assert np.array_equal(theirs.probs_nC, own.probs_nC)
    assert theirs.mask_nC[:, column].tolist() == [index % 3 != 0 for index in theirs.sample_index_n]
    labelled = theirs.mask_nC[:, column]
    assert theirs.targets_nC[labelled, column].tolist() == (theirs.sample_index_n[labelled] % 2).tolist()
    others = [c for c in range(len(theirs.findings)) if c != column]
    assert np.array_equal(theirs.targets_nC[:, others], own.targets_nC[:, others])


def test_images_without_other_labels_are_left_out_and_counted(run: Path, tmp_path: Path) -> None:
    path = other_labels(tmp_path / "other", "few")
    pq.write_table(pq.read_table(path).slice(0, 48), path)
    entry = evaluate(EvaluateConfig(run=run, labels=path))
    assert entry.left_out["no label of the label space"] == 12
    assert max(read_predictions(run / entry.predictions).sample_index_n) < 48


def test_an_entry_replaces_the_one_of_its_key_and_no_other(run: Path, tmp_path: Path) -> None:
    labels = other_labels(tmp_path / "other", "experts")
    for checkpoint, manifest in (("best", None), ("last", None), ("best", labels), ("best", None)):
        evaluate(EvaluateConfig(run=run, checkpoint=checkpoint, labels=manifest))
    keys = [(entry["labels"], entry["checkpoint"]) for entry in metrics_of(run)]
    assert keys == [("pack", "best"), ("pack", "last"), ("experts", "best")]
    assert len({entry["predictions"] for entry in metrics_of(run)}) == 3


def test_a_checkpoint_by_its_path_is_the_same_as_by_its_name(run: Path) -> None:
    last = evaluate(EvaluateConfig(run=run, checkpoint="last"))
    named = evaluate(EvaluateConfig(run=run, checkpoint=str(load_trained_model(run, checkpoint="last").checkpoint)))
    assert named.metrics == last.metrics
    assert named.checkpoint == f"step-{last.step:08d}"


@pytest.mark.parametrize(("section", "key", "value"), [("run", "seed", 1), ("loss", "name", "bce")])
def test_a_checkpoint_of_another_run_is_refused(
    section: str, key: str, value: object, run: Path, tmp_path: Path
) -> None:
    config = json.loads((run / "config.json").read_text())
    shutil.copytree(run, tmp_path / "other")
    config[section][key] = value
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=rf"best\.pt: not a checkpoint of the run .*other: {section}\.{key}="):
        evaluate(EvaluateConfig(run=tmp_path / "other", checkpoint=str(run / "checkpoints" / "best.pt")))
    assert not (tmp_path / "other" / "metrics.json").exists()


def test_batch_size_and_loader_do_not_change_what_is_measured(run: Path) -> None:
    first = evaluate(EvaluateConfig(run=run))
    probs_nC = read_predictions(run / first.predictions).probs_nC
    second = evaluate(EvaluateConfig(run=run, batch_size=5, loader="reference"))
    assert np.allclose(read_predictions(run / second.predictions).probs_nC, probs_nC, atol=1e-6)


def test_a_pack_that_took_the_place_of_the_runs_is_refused(run: Path, tmp_path: Path) -> None:
    other = make_pack(tmp_path, num_images=NUM_IMAGES + 8)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"data": config["data"] | {"pack": str(other.folder)}}))
    with pytest.raises(PackError, match="not the images that"):
        evaluate(EvaluateConfig(run=run))
    assert not (run / "metrics.json").exists()


def test_another_pack_of_the_same_dataset_is_measured_with_a_warning(run: Path, tmp_path: Path) -> None:
    other = make_pack(tmp_path, num_images=NUM_IMAGES + 8)
    entry = evaluate(EvaluateConfig(run=run, pack=other.folder))
    assert "may have been trained on patients" in entry.warnings[0]
    assert "may have been trained on patients" in write_report(run).read_text()
    own = evaluate(EvaluateConfig(run=run))
    assert own.predictions != entry.predictions
    entries = json.loads((run / "metrics.json").read_text())["evaluations"]
    assert [(e["pack"], e["num_images"]) for e in entries] == [
        (other.folder.name, entry.num_images),
        (None, own.num_images),
    ]


def test_labels_of_other_images_are_refused(run: Path, tmp_path: Path) -> None:
    path = other_labels(tmp_path / "other", "elsewhere", dataset=pa.array(["openi"] * NUM_IMAGES))
    with pytest.raises(ManifestError, match="no image in common"):
        evaluate(EvaluateConfig(run=run, labels=path))
    assert not (run / "metrics.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "testing"}, "split 'testing'"),
        ({"checkpoint": "nowhere.pt"}, "no such checkpoint"),
        ({"run": Path("nowhere")}, "not the folder of a run"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"loader": "rwa"}, "unknown"),
    ],
)
def test_what_cannot_be_evaluated_is_one_clear_error(run: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate(replace(EvaluateConfig(run=run), **change))  # type: ignore[arg-type]
    assert not (run / "metrics.json").exists()


def run_command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "trainer.cli", "evaluate", *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_prints_every_finding_with_its_positives_and_writes_the_report(run: Path) -> None:
    done = run_command("--run", str(run), "--split", "train", "--checkpoint", "best", "--checkpoint", "last")
    assert done.returncode == 0, done.stderr
    assert any(finding["auroc_interval"] for finding in metrics_of(run)[0]["findings"])  # type: ignore[attr-defined]
    for entry in metrics_of(run):
        for finding in entry["findings"]:  # type: ignore[attr-defined]
            auroc = "n/a" if finding["auroc"] is None else f"{finding['auroc']:.4f}"
            if finding["auroc_interval"] is not None:
                auroc += " \\({:.3f}-{:.3f}\\)".format(*finding["auroc_interval"])
            row = rf"{finding['finding']} +│ +{finding['positives']} │ +{finding['negatives']} │ +{auroc} │"
            assert re.search(row, done.stdout), row
    assert [entry["checkpoint"] for entry in metrics_of(run)] == ["best", "last"]
    assert f"report: {run / 'report.html'}" in done.stdout
    assert "n/a" in done.stdout


def test_intervals_are_drawn_as_asked_and_told(run: Path) -> None:
    drawn = BootstrapConfig(draws=300, resampling="stratified", confidence=0.9, seed=3)
    evaluate(EvaluateConfig(run=run, split="train", bootstrap=drawn, min_positives=4))
    (entry,) = metrics_of(run)
    assert entry["bootstrap"] == {"draws": 300, "resampling": "stratified", "confidence": 0.9, "seed": 3}
    assert entry["supported"]["min_positives"] == 4  # type: ignore[index]
    assert "90% of 300 bootstrap draws of each class" in write_report(run).read_text()
    evaluate(EvaluateConfig(run=run, split="train", bootstrap=BootstrapConfig(draws=0)))
    (entry,) = metrics_of(run)
    assert entry["bootstrap"] is None
    assert "bootstrap draws" not in write_report(run).read_text()


def test_the_command_tells_the_differences_to_another_run(run: Path, trained: Path, tmp_path: Path) -> None:
    other = shutil.copytree(trained, tmp_path / "other")
    refused = run_command("--run", str(run), "--split", "train", "--against", str(other))
    assert refused.returncode == 2
    assert "evaluate that run in the same way first" in refused.stderr
    evaluate(EvaluateConfig(run=other, split="train"))
    done = run_command("--run", str(run), "--split", "train", "--against", str(other))
    assert done.returncode == 0, done.stderr
    assert "AUROC of run less that of other" in done.stdout
    assert "+0.000 (+0.000, +0.000) " in done.stdout
    content = json.loads((run / "predictions-nih-train-against-other.json").read_text())
    assert len(content["differences"]) == 15
    assert all(row["difference"] in (0, None) for row in content["differences"])


def test_an_unknown_resampling_is_one_line_and_exit_code_2(run: Path) -> None:
    done = run_command("--run", str(run), "--resampling", "images")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "expected patient or stratified" in done.stderr


def test_a_user_error_is_one_line_and_exit_code_2(run: Path) -> None:
    done = run_command("--run", str(run), "--split", "testing")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "there are: train, valid, test" in done.stderr
