"""The experts' findings: read as `manifests.expert` reads them, scored against the maximum of their outputs."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from manifests.errors import ConfigError, ManifestError
from manifests.expert import RELEASED, read_expert_file
from tests.factories import image_names, make_manifest, patient_splits
from tests.trainer.expert_findings import write_findings
from tests.trainer.tiny_runs import trained_small
from trainer.evaluation.bootstrap import BootstrapConfig
from trainer.evaluation.evaluate import EvaluateConfig, evaluate
from trainer.evaluation.expert import OUTPUTS, combined, read_expert_findings
from trainer.evaluation.predictions import Predictions, read_predictions
from trainer.report.run_report import write_report

NUM_IMAGES = 64


@pytest.fixture(scope="module")
def tested() -> list[str]:
    """All but the first three of the images of the split test."""
    splits = patient_splits(NUM_IMAGES)
    return [name for name, split in zip(image_names(NUM_IMAGES), splits, strict=True) if split == "test"][3:]


@pytest.fixture(scope="module")
def trained(tiny_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_small(tiny_pack, tmp_path_factory.mktemp("runs") / "trained")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def same_as_oracle(path: Path) -> None:
    answers, sets = read_expert_findings(path)
    expected = read_expert_file(path)
    assert list(answers) == expected["image_id"].to_list()
    assert [*answers.values()] == [tuple(map(float, row)) for row in expected.select(*RELEASED).iter_rows()]
    assert list(sets.values()) == expected["set"].to_list()


def test_the_file_is_read_as_the_manifests_package_reads_it(tmp_path: Path, tested: list[str]) -> None:
    plain = write_findings(tmp_path / "expert.csv", tested)
    same_as_oracle(plain)
    packed = tmp_path / "expert.csv.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\r\n")))
    assert read_expert_findings(packed) == read_expert_findings(plain)


def test_the_real_file_is_read_as_the_manifests_package_reads_it(real_data: Path) -> None:
    same_as_oracle(next((real_data / "nih").glob("google2019*")))


def test_all_that_is_wrong_is_told_with_its_line(tmp_path: Path, tested: list[str]) -> None:
    path = write_findings(tmp_path / "expert.csv", tested)
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace("YES", "maybe").replace(",NO", ",maybe")
    lines[2] = lines[2].removesuffix("test") + "train"
    lines[3] = lines[4]
    lines[5] += ",more"
    path.write_text("\n".join(lines))
    with pytest.raises(ManifestError) as error:
        read_expert_findings(path)
    assert [problem.split(":")[0] for problem in error.value.problems] == [
        *["line 2"] * len(OUTPUTS), "line 3", "line 5", "line 6",
    ]  # fmt: skip
    path.write_text("Image Index,Finding Labels\na.png,Mass\n")
    with pytest.raises(ManifestError, match="no column Fracture, Pneumothorax"):
        read_expert_findings(path)
    with pytest.raises(ManifestError, match="cannot be read"):
        read_expert_findings(tmp_path / "nowhere.csv")


def test_a_score_is_the_maximum_and_a_label_any_of_the_outputs() -> None:
    predictions = Predictions(
        findings=("Nodule", "Effusion", "Mass", "Infiltration"),
        sample_index_n=np.arange(4),
        image_id_n=list("abcd"),
        patient_id_n=list("abcd"),
        probs_nC=np.array([[0.1, 1, 0.3, 0.5], [0.7, 1, 0.2, 0.5], [0, 1, 0, 0.5], [0.4, 1, 0.4, 0.5]], np.float32),
        targets_nC=np.array([[0, 1, 1, 0], [0, 1, 0, 1], [0, 1, 0, 1], [1, 1, 0, 0]], np.float32),
        mask_nC=np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 1], [1, 1, 0, 1]], bool),
    )
    found = combined(predictions)
    assert found.findings == ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")
    assert np.isnan(found.probs_nC[:, :2]).all()
    assert found.probs_nC[:, 2].tolist() == [0.5] * 4
    assert found.probs_nC[:, 3].tolist() == pytest.approx([0.3, 0.7, 0, 0.4])
    assert found.targets_nC[:, 3].tolist() == [1, 0, 0, 1]
    assert found.mask_nC[:, 3].tolist() == [True, True, False, True]  # c: no nodule, and nobody knows of a mass
    assert found.mask_nC[:, 2].tolist() == [True, False, True, True]
    assert not found.mask_nC[:, :2].any()


def test_experts_findings_are_an_evaluation_of_their_own(run: Path, tmp_path: Path, tested: list[str]) -> None:
    file = write_findings(tmp_path / "expert.csv", tested)
    own = evaluate(EvaluateConfig(run=run))
    entry = evaluate(EvaluateConfig(run=run, expert=file, bootstrap=BootstrapConfig(draws=100)))
    assert [(e["labels"], e["num_images"]) for e in json.loads((run / "metrics.json").read_text())["evaluations"]] == [
        ("pack", own.num_images),
        ("expert-findings", len(tested)),
    ]
    assert entry.left_out == {"not seen by the experts": 3}
    assert entry.outputs is not None
    assert entry.outputs["Fracture"] == ()
    assert entry.outputs["Nodule or mass"] == ("Nodule", "Mass")
    # nvum-nih has no output Consolidation, and leaves out rows with it: here they count, whatever was released.
    assert entry.outputs["Airspace opacity"] == ("Infiltration", "Pneumonia", "Edema")
    assert entry.num_images > own.num_images - 3
    table = pl.read_parquet(run / entry.predictions)
    expert = read_expert_file(file)
    together = table.join(expert, on="image_id", how="inner", maintain_order="left")
    assert len(together) == len(table)
    fracture, *others = entry.metrics.findings
    assert (fracture.auroc, fracture.positives) == (
        None,
        expert.filter(pl.col("image_id").is_in(tested))["Fracture"].sum(),
    )
    for finding in others:
        probs, targets = together[f"prob_{finding.finding}"], together[finding.finding]
        assert finding.auroc == pytest.approx(roc_auc_score(targets, probs), abs=1e-9)
        assert together[f"target_{finding.finding}"].to_list() == targets.to_list()
    assert entry.metrics.num_findings_in_mean == 3
    # The maximum is that of the model's own outputs, where both evaluations have the image.
    outputs = read_predictions(run / own.predictions)
    columns = [outputs.findings.index(name) for name in ("Nodule", "Mass")]
    largest = dict(zip(outputs.image_id_n, outputs.probs_nC[:, columns].max(axis=1), strict=True))
    shared = table.filter(pl.col("image_id").is_in(list(largest)))
    assert len(shared) > 3
    assert shared["prob_Nodule or mass"].to_list() == pytest.approx(
        [largest[name] for name in shared["image_id"]], abs=1e-6
    )
    text = write_report(run).read_text()
    assert "Nodule or mass: the maximum of Nodule, Mass." in text
    assert "Fracture: n/a, the model has no such output." in text


def test_what_the_experts_cannot_measure_is_refused(run: Path, tmp_path: Path, tested: list[str]) -> None:
    file = write_findings(tmp_path / "expert.csv", tested)
    with pytest.raises(ConfigError, match=r"none of its \d+ images is in the split valid"):
        evaluate(EvaluateConfig(run=run, expert=file, split="valid"))
    manifest = make_manifest(tmp_path, num_images=8)
    with pytest.raises(ConfigError, match="expected one of them"):
        EvaluateConfig(run=run, expert=file, labels=manifest)
    trained_on = write_findings(tmp_path / "seen.csv", image_names(2))
    (warning,) = evaluate(EvaluateConfig(run=run, expert=trained_on, split="train")).warnings
    assert "has seen the experts' images" in warning


def test_images_of_another_dataset_are_not_the_experts(run: Path, tmp_path: Path, tested: list[str]) -> None:
    file = write_findings(tmp_path / "expert.csv", [f"other-{name}" for name in tested])
    with pytest.raises(ConfigError, match="expected a pack of ChestX-ray14"):
        evaluate(EvaluateConfig(run=run, expert=file))
    assert not (run / "metrics.json").exists()
