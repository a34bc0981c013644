"""Suspected labels: the ranking is the one that is stated, and wrong labels that a run contradicts come first."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from manifests.errors import ConfigError, ManifestError
from manifests.findings import NO_FINDING
from pipeline.packing.config import PackConfig
from pipeline.packing.packer import pack_manifest
from tests.factories import make_pack
from tests.trainer.tiny_runs import BCE, NVUM, newest_checkpoint, settings, with_column
from trainer import launch
from trainer.cli import app
from trainer.suspects.found import found
from trainer.suspects.listing import SIDES
from trainer.suspects.opinions import read_opinions
from trainer.suspects.report import SuspectsConfig, report_suspects
from trainer.suspects.scores import image_suspicion, most_suspicious, suspicion, with_prior

FINDINGS = ("Mass", "Hernia", NO_FINDING)


def draws(num: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((num, 3)), rng.random((num, 3)) < [0.3, 0.05, 0.6], rng.random((num, 3)) < 0.9


def test_probabilities_have_the_labels_mean_and_their_own_order() -> None:
    probs, labels, mask = draws()
    moved = with_prior(probs, labels, mask)
    for column in range(3):
        known = mask[:, column]
        assert moved[known, column].mean() == pytest.approx(labels[known, column].mean(), abs=1e-9)
        assert np.array_equal(np.argsort(moved[:, column]), np.argsort(probs[:, column]))


def test_a_loss_that_moves_all_logits_changes_no_suspicion() -> None:
    probs, labels, mask = draws()
    moved = 1 / (1 + np.exp(-(np.log(probs / (1 - probs)) - [3, -2, 0.5])))
    assert np.allclose(with_prior(moved, labels, mask), with_prior(probs, labels, mask), atol=1e-9)


def test_what_the_run_says_nothing_of_is_never_suspicious() -> None:
    probs, labels, mask = draws()
    probs[7] = np.nan
    scores = suspicion(with_prior(probs, labels, mask), labels, mask)
    assert np.array_equal(np.isnan(scores), ~mask | (np.arange(400) == 7)[:, None])
    order = most_suspicious(scores[:, 0])
    assert 7 not in order
    assert (np.diff(scores[order, 0]) <= 0).all()
    assert image_suspicion(scores, FINDINGS)[7] == 0
    assert image_suspicion(scores, FINDINGS)[0] == pytest.approx(np.nansum(scores[0, :2])), "without No Finding"


def test_a_finding_with_labels_of_one_kind_keeps_its_probabilities() -> None:
    probs, labels, mask = draws()
    labels[:, 1] = False
    assert np.allclose(with_prior(probs, labels, mask)[:, 1], probs[:, 1])


def test_what_is_found_is_counted_as_by_hand() -> None:
    probs, labels, mask = draws()
    scores = suspicion(probs, labels, mask)
    is_wrong = (np.random.default_rng(1).random((400, 3)) < np.nan_to_num(scores)) & mask
    result = found(scores, is_wrong, mask, FINDINGS)
    for column, row in enumerate(result.findings):
        known = mask[:, column]
        assert (row.labels, row.wrong) == (known.sum(), is_wrong[:, column].sum())
        assert row.auroc == pytest.approx(roc_auc_score(is_wrong[known, column], scores[known, column]))
        first = np.argsort(-np.where(known, scores[:, column], -1), kind="stable")[: round(0.1 * known.sum())]
        assert row.precision["0.1"] == pytest.approx(is_wrong[first, column].mean())
    of_images = np.nansum(scores[:, :2], axis=1)
    some = np.flatnonzero(mask.any(axis=1))
    first = some[np.argsort(-of_images[some], kind="stable")][: round(0.05 * len(some))]
    assert result.images == len(some)
    assert result.found["0.05"] == is_wrong[first, :2].sum()
    assert result.wrong == is_wrong[:, :2].sum()
    assert result.by_chance["0.05"] == pytest.approx(result.wrong * len(first) / len(some))


@pytest.fixture(scope="module")
def runs(tiny_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of two runs on the tiny pack, with and without a memory, and of clean labels."""
    folder = tmp_path_factory.mktemp("suspects")
    launch.train(settings(tiny_pack, NVUM, data={"label_space": "nih14"}), out=folder / "nvum")
    launch.train(settings(tiny_pack, BCE, data={"label_space": "nih14"}), out=folder / "bce")
    table = pq.read_table(tiny_pack / "manifest.parquet")
    for name in ("Mass", "Effusion"):
        values = [1 - value if row % 5 == 0 else value for row, value in enumerate(table[name].to_pylist())]
        table = with_column(table, name, pa.array(values, pa.int8()))
    pq.write_table(table, folder / "clean.parquet")
    return folder


def test_the_memorys_opinion_is_its_row_with_the_prior_put_back(runs: Path) -> None:
    opinions = read_opinions(runs / "nvum")
    assert opinions.source == "memory"
    checkpoint = newest_checkpoint(runs / "nvum")
    rows = checkpoint["memory"]["previous_NC"].numpy()[opinions.sample_index_n]
    loss, prior = checkpoint["config"]["loss"], np.array(checkpoint["identities"]["prior"])
    logits = rows / (1 - loss["memory_decay"] ** 2) + loss["prior_temperature"] * np.log(prior)
    assert np.allclose(opinions.probs_nC, 1 / (1 + np.exp(-logits)), atol=1e-5)
    assert "memory" in checkpoint
    assert read_opinions(runs / "nvum", source="model").source == "model"


def test_without_memory_it_is_the_models_and_this_is_said(runs: Path) -> None:
    report = report_suspects(SuspectsConfig(run=runs / "bce"))
    assert report.opinions.source == "model"
    assert "learned by heart" in report.notes[0]
    assert "learned by heart" in (runs / "bce" / "suspects.html").read_text()
    assert report.found is None
    assert "is_wrong" not in pq.read_table(runs / "bce" / "suspects.parquet").column_names


def test_the_list_is_a_finding_and_a_side_at_a_time_and_its_files_agree(runs: Path) -> None:
    report = report_suspects(SuspectsConfig(run=runs / "nvum", top=5, clean=runs / "clean.parquet"))
    table = pq.read_table(runs / "nvum" / "suspects.parquet")
    rows = table.to_pylist()
    assert [row.finding for row in report.suspects] == table["finding"].to_pylist()
    manifest = pq.read_table(report.opinions.pack.folder / "manifest.parquet")
    clean = pq.read_table(runs / "clean.parquet")
    for finding in report.opinions.findings:
        for side, label in zip(SIDES, (1, 0), strict=True):
            own = [row for row in rows if (row["finding"], row["side"]) == (finding, side)]
            assert [row["rank"] for row in own] == list(range(1, len(own) + 1))
            assert len(own) <= 5
            scores = [row["suspicion"] for row in own]
            assert scores == sorted(scores, reverse=True)
            for row in own:
                place = row["sample_index"]
                assert row["label"] == label == manifest[finding][place].as_py()
                assert row["image_id"] == manifest["image_id"][place].as_py()
                assert manifest["split"][place].as_py() == "train"
                assert row["suspicion"] == pytest.approx(abs(label - row["probability"]), abs=1e-6)
                assert row["is_wrong"] == (label != clean[finding][place].as_py())
    as_csv = pa.csv.read_csv(runs / "nvum" / "suspects.csv")
    assert as_csv["image_id"].to_pylist() == table["image_id"].to_pylist()
    told = json.loads((runs / "nvum" / "suspects.json").read_text())
    assert report.found is not None
    assert told["wrong"] == report.found.wrong > 0
    assert {row["finding"] for row in told["findings"] if row["wrong"]} == {"Mass", "Effusion"}


def test_the_page_has_a_picture_of_every_suspect_and_fetches_nothing(runs: Path) -> None:
    report = report_suspects(SuspectsConfig(run=runs / "nvum", findings=("Mass", "Effusion"), top=3))
    text = (runs / "nvum" / "suspects.html").read_text()
    assert text.count("data:image/jpeg;base64,") == len(report.suspects) > 6
    assert {row.finding for row in report.suspects} == {"Mass", "Effusion"}
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "<script" not in text
    again = report_suspects(SuspectsConfig(run=runs / "nvum", findings=("Mass", "Effusion"), top=3))
    assert again.files[0].read_text() == text


def test_what_cannot_be_is_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="loss bce has no memory; ask the model"):
        report_suspects(SuspectsConfig(run=runs / "bce", source="memory"))
    with pytest.raises(ConfigError, match="--finding Fracture: no output of"):
        report_suspects(SuspectsConfig(run=runs / "nvum", findings=("Fracture",)))
    with pytest.raises(ConfigError, match="not the folder of a run"):
        report_suspects(SuspectsConfig(run=tmp_path))
    with pytest.raises(ManifestError, match=r"--clean .*no such manifest"):
        report_suspects(SuspectsConfig(run=runs / "nvum", clean=tmp_path / "nowhere.parquet"))


def test_labels_that_have_changed_since_are_refused(tiny_pack: Path, tmp_path: Path) -> None:
    table = pq.read_table(tiny_pack / "manifest.parquet")
    pq.write_table(table, tmp_path / "labels.parquet")
    asked = settings(tiny_pack, NVUM, data={"labels": str(tmp_path / "labels.parquet")}, run={"epochs": 1})
    launch.train(asked, out=tmp_path / "run")
    mass = pa.array([1 - value for value in table["Mass"].to_pylist()], pa.int8())
    pq.write_table(with_column(table, "Mass", mass), tmp_path / "labels.parquet")
    with pytest.raises(ConfigError, match="checkpoint of another"):
        report_suspects(SuspectsConfig(run=tmp_path / "run"))


def test_wrong_labels_that_nobody_could_learn_come_before_right_ones(tmp_path: Path) -> None:
    """Images are white where Mass is there and black where not; of the labels some are wrong."""
    pack = make_pack(tmp_path, num_images=160, size_px=32)
    clean = (np.arange(160) // 2) % 3 == 0
    for shard in pack.shards:
        there = clean[shard.first_index : shard.first_index + shard.num_samples]
        pixels = np.load(pack.shard_path(shard))
        np.save(pack.shard_path(shard), (pixels // 4 + 150 * there[:, None, None]).astype(np.uint8))
    labelled = clean ^ (np.arange(160) % 11 == 0)
    for name, values in (("clean", clean), ("noisy", labelled)):
        table = pq.read_table(pack.folder / "manifest.parquet")
        pq.write_table(
            with_column(table, "Mass", pa.array(values.astype(int), pa.int8())), tmp_path / f"{name}.parquet"
        )
    asked = settings(
        pack.folder, NVUM, data={"label_space": "nih14", "labels": str(tmp_path / "noisy.parquet")},
        loader={"verify": False}, run={"epochs": 6},
    )  # fmt: skip
    launch.train(asked, out=tmp_path / "run")
    report = report_suspects(SuspectsConfig(run=tmp_path / "run", clean=tmp_path / "clean.parquet"))
    assert report.found is not None
    (mass,) = (row for row in report.found.findings if row.finding == "Mass")
    assert mass.wrong > 5
    assert mass.auroc is not None
    assert mass.auroc > 0.9


def test_the_command_says_what_it_found(runs: Path) -> None:
    result = CliRunner().invoke(
        app, ["suspects", "--run", str(runs / "nvum"), "--top", "2", "--clean", str(runs / "clean.parquet")]
    )
    assert result.exit_code == 0, result.output
    for name in ("suspects.html", "suspects.csv", "suspects.parquet", "suspects.json"):
        assert str(runs / "nvum" / name) in result.output
    assert "images read again" in result.output
    assert "Mass" in result.output


def test_suspects_of_real_images(real_data: Path, tmp_path: Path) -> None:
    """Plumbing: the list of a short run on the 1,000 real images; nothing is claimed of what it finds."""
    from manifests.build import BuildConfig, build_manifest
    from pipeline.image_spec import ImageSpec

    root, manifest = real_data / "nih", tmp_path / "nih.parquet"
    build_manifest(BuildConfig(dataset="nih", root=root, out=manifest, images="images_64"))
    pack = pack_manifest(manifest, root=root, out=tmp_path / "pack", config=PackConfig(spec=ImageSpec.square(64))).pack
    asked = settings(pack.folder, NVUM, data={"label_space": "nih14"}, loader={"batch_size": 64}, run={"epochs": 1})
    launch.train(asked, out=tmp_path / "run")
    report = report_suspects(SuspectsConfig(run=tmp_path / "run", top=10))
    assert {row.finding for row in report.suspects} == set(report.opinions.findings)
    assert (tmp_path / "run" / "suspects.html").stat().st_size > 100_000
