"""Thresholds are chosen on validation, once a checkpoint; several test sets are one command."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import trainer.cli
from tests.factories import make_pack
from tests.trainer.expert_findings import write_findings
from tests.trainer.tiny_runs import trained_small
from trainer import launch
from trainer.evaluation import validation_images
from trainer.evaluation.evaluate import EvaluateConfig, evaluate
from trainer.evaluation.operating import OperatingRule, choose
from trainer.evaluation.predictions import read_predictions
from trainer.sections import Values

NUM_IMAGES = 96


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The pack that is trained on, and another one."""
    return tuple(
        make_pack(tmp_path_factory.mktemp(name), num_images=number, seed=number).folder
        for name, number in (("own", NUM_IMAGES), ("other", 48))
    )  # type: ignore[return-value]


@pytest.fixture(scope="module")
def trained(packs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_small(packs[0], tmp_path_factory.mktemp("runs") / "trained")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def entries_of(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((run / "metrics.json").read_text())["evaluations"]
    return found


def test_thresholds_are_those_of_the_validation_images(run: Path) -> None:
    rule = OperatingRule(name="sensitivity", at_least=0.6)
    entry = evaluate(EvaluateConfig(run=run, operating=rule))
    assert entry.operating is not None
    assert entry.operating.rule == rule
    assert entry.operating.predictions == "predictions-nih-valid.parquet"
    validation = read_predictions(run / entry.operating.predictions)
    splits = pq.read_table(Path(json.loads((run / "config.json").read_text())["data"]["pack"]) / "manifest.parquet")
    assert {splits["split"][int(row)].as_py() for row in validation.sample_index_n} == {"valid"}
    points = {finding.finding: finding.operating_point for finding in entry.metrics.findings}
    assert points["No Finding"] is not None
    for column, name in enumerate(validation.findings):
        expected = choose(rule, validation.probs_nC[:, column], validation.targets_nC[:, column] > 0.5)
        point = points[name]
        assert (None if point is None else point.chosen) == expected
    assert len(entries_of(run)) == 1  # validation is no test set


def test_validation_is_predicted_once_a_checkpoint(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    predict = validation_images._predict

    def counted(*arguments: Any, **options: Any) -> None:
        made.append(arguments)
        predict(*arguments, **options)

    monkeypatch.setattr(validation_images, "_predict", counted)
    first = evaluate(EvaluateConfig(run=run))
    second = evaluate(EvaluateConfig(run=run, split="train"))
    assert len(made) == 1
    assert first.operating == second.operating
    # Another state of the run under the same name is not taken for this one.
    file = run / "predictions-nih-valid.parquet"
    read_predictions(file).write(file, {"step": "7"})
    assert evaluate(EvaluateConfig(run=run)).metrics == first.metrics
    assert len(made) == 2
    file.write_bytes(b"PAR1 half")
    assert evaluate(EvaluateConfig(run=run)).metrics == first.metrics
    assert len(made) == 3


def test_evaluating_validation_leaves_predictions_that_thresholds_take(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = evaluate(EvaluateConfig(run=run, split="valid"))
    assert entry.operating is not None
    assert entry.operating.why_not == "thresholds are chosen on these very images"
    assert all(finding.operating_point is None for finding in entry.metrics.findings)
    monkeypatch.setattr(validation_images, "_predict", None)
    assert evaluate(EvaluateConfig(run=run)).operating is not None


def test_without_the_runs_images_there_are_no_thresholds_and_it_is_said(run: Path, packs: tuple[Path, Path]) -> None:
    config = json.loads((run / "config.json").read_text())
    config["data"]["pack"] = str(run / "gone")
    (run / "config.json").write_text(json.dumps(config))
    entry = evaluate(EvaluateConfig(run=run, pack=packs[1]))
    assert entry.operating is not None
    assert "are not there" in str(entry.operating.why_not)
    assert entry.metrics.mean_auroc is not None


def test_thresholds_take_the_labels_that_the_run_was_validated_on(packs: tuple[Path, Path], tmp_path: Path) -> None:
    manifest = pq.read_table(packs[0] / "manifest.parquet")
    position = manifest.column_names.index("No Finding")
    flipped = pa.array([1 - value.as_py() for value in manifest["No Finding"]], pa.int8())
    pq.write_table(manifest.set_column(position, "No Finding", flipped), tmp_path / "noisy.parquet")
    settings: Values = {
        "data": {"pack": str(packs[0]), "labels": str(tmp_path / "noisy.parquet")},
        "model": {"name": "small"},
        "loss": {"name": "bce"},
        "run": {"epochs": 1, "num_threads": 1, "device": "cpu"},
    }
    run = launch.train(settings, out=tmp_path / "run").run
    entry = evaluate(EvaluateConfig(run=run))
    assert entry.operating is not None
    assert entry.operating.predictions == "predictions-nih-valid-noisy.parquet"
    validation = read_predictions(run / "predictions-nih-valid-noisy.parquet")
    column = validation.findings.index("No Finding")
    assert validation.targets_nC[:, column].tolist() == [flipped[int(row)].as_py() for row in validation.sample_index_n]
    test = read_predictions(run / entry.predictions)
    assert test.targets_nC[:, column].tolist() == [
        manifest["No Finding"][int(row)].as_py() for row in test.sample_index_n
    ]


def test_no_rule_no_thresholds(run: Path) -> None:
    entry = evaluate(EvaluateConfig(run=run, operating=None))
    assert entry.operating is None
    assert not (run / "predictions-nih-valid.parquet").exists()


def test_several_test_sets_are_one_command(run: Path, packs: tuple[Path, Path], tmp_path: Path) -> None:
    own, other = packs
    (tmp_path / "b").mkdir()
    other = shutil.copytree(other, tmp_path / "b" / "second")
    table = pq.read_table(other / "manifest.parquet")
    images = table.filter([value == "test" for value in table["split"].to_pylist()])["image_id"].to_pylist()
    file = write_findings(tmp_path / "expert.csv", images)
    arguments = ["evaluate", "--run", run, "--pack", own, "--pack", other, "--expert", file]
    arguments += ["--specificity", "0.7", "--bootstrap", "100"]
    done = CliRunner().invoke(trainer.cli.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    entries = entries_of(run)
    assert [(e["pack"], e["labels"]) for e in entries] == [
        (None, "pack"), ("second", "pack"), (None, "expert-findings"), ("second", "expert-findings"),
    ]  # fmt: skip
    assert {e["operating"]["predictions"] for e in entries} == {"predictions-nih-valid.parquet"}
    assert len({e["predictions"] for e in entries}) == 4
    assert "thresholds by specificity >= 0.7 on" in done.output
    assert "Nodule or mass: the maximum of Nodule, Mass" in done.output
    summary = done.output.split("mean AUROC, without No Finding")[-1]
    for entry in entries:
        assert re.search(
            rf"│ +{entry['num_images']} │ +{entry['mean_auroc']:.4f} │ +{entry['num_findings_in_mean']} │", summary
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sensitivity", "0.9", "--specificity", "0.9"], "expected one of them"),
        (["--sensitivity", "90"], "expected a share between 0 and 1"),
    ],
)
def test_a_rule_that_cannot_be_is_said_before_anything_is_read(
    options: list[str], message: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(trainer.cli.app, ["evaluate", "--run", str(tmp_path), *options])
    assert message in str(done.exception)
