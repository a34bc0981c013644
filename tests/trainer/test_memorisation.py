"""Memorisation tells wrong labels that are learned by heart from right ones, and changes nothing in the run."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from manifests.errors import ManifestError
from manifests.findings import NO_FINDING
from manifests.label_spaces import LabelSpace
from manifests.selection import Selection
from tests.trainer.several_ranks import on_ranks, run
from tests.trainer.tiny_runs import (
    BCE,
    NVUM,
    before_step,
    different_leaves,
    newest_checkpoint,
    own_events,
    settings,
    with_column,
)
from trainer import launch
from trainer.config import LabConfig, TrainConfig
from trainer.data import open_training_data
from trainer.events import read_events
from trainer.memorisation import Answers, CleanSample, called_present, clean_sample, memorisation
from trainer.nvum import log_prior
from trainer.remembered import Memory, remembered_probs
from trainer.report.run_report import write_report
from trainer.sections import build
from trainer.step import TrainStep

SPACE = LabelSpace(name="two", findings=("Mass", "Hernia", NO_FINDING))


def sample_of(labelled: np.ndarray, clean: np.ndarray, known: np.ndarray | None = None) -> CleanSample:
    """A sample of all rows, [m, 3]."""
    known = np.ones_like(clean) if known is None else known
    rows = np.arange(len(clean), dtype=np.int64)
    selection = Selection(
        space=SPACE, split="train", sample_index_n=rows, targets_NC=labelled.astype(np.float32), mask_NC=known,
        left_out={},
    )  # fmt: skip
    return CleanSample(selection=selection, clean_mC=clean & known, known_mC=known)


def cohort() -> tuple[np.ndarray, np.ndarray]:
    """Labels and truth of 200 images; every third label of the first finding is wrong, as many in both directions."""
    clean = np.tile((np.arange(200) % 4 == 0)[:, None], (1, 3))
    labelled = clean.copy()
    present, absent = np.flatnonzero(clean[:, 0]), np.flatnonzero(~clean[:, 0])
    labelled[present[::3], 0] = False
    labelled[absent[: len(present[::3])], 0] = True
    labelled[:, 2] = ~clean[:, 2]  # No Finding, all of it wrong: in no share
    return labelled, clean


def shares(fields: dict[str, Any]) -> dict[str, Any]:
    return {name.removesuffix("_fitted"): value for name, value in fields.items() if name.endswith("_fitted")}


def test_who_knows_the_truth_fits_no_wrong_label_and_who_knows_the_labels_all_of_them() -> None:
    labelled, clean = cohort()
    sample, rows = sample_of(labelled, clean), np.arange(200)
    all_right = {"right": 1.0, "right_present": 1.0}
    knows_truth = memorisation(sample, Answers(rows, clean.astype(np.float32)), None)
    assert shares(knows_truth) == {"wrong": 0.0, "wrong_present": 0.0, "wrong_absent": 0.0} | all_right
    knows_labels = memorisation(sample, Answers(rows, labelled.astype(np.float32)), None)
    assert shares(knows_labels) == {"wrong": 1.0, "wrong_present": 1.0, "wrong_absent": 1.0} | all_right
    assert (knows_truth["num_wrong"], knows_truth["num_right"]) == (34, 366), "of two findings"
    assert (knows_truth["num_wrong_present"], knows_truth["num_wrong_absent"]) == (17, 17)
    assert knows_truth["model_mean_auroc"] == 1.0
    assert (knows_truth["memory_mean_auroc"], knows_truth["memory_auroc"]) == (None, None)


def test_who_knows_nothing_fits_labels_present_at_their_frequency() -> None:
    labelled, clean = cohort()
    probs = np.random.default_rng(0).random((200, 3)).astype(np.float32)
    fields = memorisation(sample_of(labelled, clean), Answers(np.arange(200), probs), None)
    assert fields["right_present_fitted"] == pytest.approx(0.25, abs=0.15)


def test_shares_do_not_depend_on_where_probabilities_lie() -> None:
    labelled, clean = cohort()
    logits = np.random.default_rng(0).normal(size=(200, 3)) + labelled
    one, other = (
        memorisation(sample_of(labelled, clean), Answers(np.arange(200), 1 / (1 + np.exp(-values))), None)
        for values in (logits, logits - 5)
    )
    assert one == other


def test_what_is_not_known_or_could_not_be_read_counts_nowhere() -> None:
    labelled, clean = cohort()
    known = np.ones_like(clean)
    known[::2] = False
    probs = np.random.default_rng(0).random((200, 3)).astype(np.float32)
    fields = memorisation(sample_of(labelled, clean, known), Answers(np.arange(200), probs), None)
    (wrong, right) = (int(fields[f"num_{name}"]) for name in ("wrong", "right"))  # type: ignore[call-overload]
    assert wrong + right == 2 * 100
    read = np.arange(50, 200)
    fewer = memorisation(sample_of(labelled, clean), Answers(read, probs[read]), None)
    alone = memorisation(sample_of(labelled[read], clean[read]), Answers(np.arange(150), probs[read]), None)
    assert fewer == alone


def test_as_many_are_called_present_as_are_labelled_so() -> None:
    rng = np.random.default_rng(0)
    labelled, known = rng.random((40, 3)) < 0.3, rng.random((40, 3)) < 0.8
    labelled &= known
    called = called_present(np.full((40, 3), 0.5), labelled, known)
    assert np.array_equal(called.sum(axis=0), labelled.sum(axis=0))
    assert not (called & ~known).any()


def config_of(loss: str, epochs: int = 6, **loss_settings: float) -> TrainConfig:
    values = {"loss": {"name": loss, **loss_settings}, "run": {"epochs": epochs}}
    return build(TrainConfig, values, source="test")


def test_a_memory_that_always_saw_the_same_says_just_that() -> None:
    """Teacher probabilities that never change come out of the memory of each loss, whatever its average began at."""
    p_NC, prior_C = torch.tensor([[0.2, 0.9], [0.5, 0.01]]), np.array([0.1, 0.3])
    z_NC, num_epochs = torch.logit(p_NC), 4
    nvum = config_of("nvum", memory_decay=0.9)
    rows_NC = torch.zeros(2, 2)
    for _ in range(num_epochs):
        adjusted_NC = z_NC - nvum.loss.prior_temperature * log_prior(torch.from_numpy(prior_C)).float()
        rows_NC = 0.9 * rows_NC + 0.1 * adjusted_NC
    assert torch.allclose(remembered_probs(Memory(rows_NC, prior_C, num_epochs, nvum)), p_NC, atol=1e-5)
    elr, rows_ND = config_of("elr", elr_decay=0.7), torch.zeros(2, 4)
    for _ in range(num_epochs):
        rows_ND = 0.7 * rows_ND + 0.3 * torch.cat([p_NC, 1 - p_NC], dim=1)
    assert torch.allclose(remembered_probs(Memory(rows_ND, prior_C, num_epochs, elr)), p_NC, atol=1e-5)
    relay = config_of("relay", relay_generations=3, relay_decay=0.5)
    handed_on_ND = torch.cat([z_NC, 0.5 * z_NC], dim=1)  # one epoch of the third generation
    assert torch.allclose(remembered_probs(Memory(handed_on_ND, prior_C, 5, relay)), p_NC, atol=1e-5)
    first_ND = torch.cat([torch.zeros_like(z_NC), 0.75 * z_NC], dim=1)  # two of the first
    assert torch.allclose(remembered_probs(Memory(first_ND, prior_C, 2, relay)), p_NC, atol=1e-5)
    rows_ND[1] = 0
    assert remembered_probs(Memory(rows_ND, prior_C, num_epochs, elr))[1].isnan().all(), "never written"


@pytest.fixture
def clean_labels(tiny_pack: Path, tmp_path: Path) -> Path:
    """Labels of the tiny pack, of which every fifth of Mass and Effusion is another."""
    table = pq.read_table(tiny_pack / "manifest.parquet")
    for name in ("Mass", "Effusion"):
        values = [1 - value if row % 5 == 0 else value for row, value in enumerate(table[name].to_pylist())]
        table = with_column(table, name, pa.array(values, pa.int8()))
    pq.write_table(table, tmp_path / "clean.parquet")
    return tmp_path / "clean.parquet"


def events_of(run: Path) -> list[dict[str, Any]]:
    return [event for event in read_events(run / "events.jsonl") if event["event"] == "memorisation"]


@pytest.mark.parametrize("method", [BCE, NVUM, {"loss": {"name": "elr"}}, {"loss": {"name": "relay"}}])
def test_a_run_is_the_same_with_and_without(
    method: dict[str, Any], tiny_pack: Path, clean_labels: Path, tmp_path: Path
) -> None:
    asked = settings(tiny_pack, method, model={"name": "small"})
    launch.train(asked, out=tmp_path / "without")
    launch.train(asked | {"lab": {"clean_labels": str(clean_labels)}}, out=tmp_path / "with")
    besides = {"config", "elapsed_s", "events_num_bytes"}
    ends = [newest_checkpoint(tmp_path / name) for name in ("without", "with")]
    assert different_leaves(ends[0], ends[1], besides=besides) == []
    assert own_events(tmp_path / "without") == own_events(tmp_path / "with")
    events = events_of(tmp_path / "with")
    assert [event["epoch"] for event in events] == [0, 1]
    assert events_of(tmp_path / "without") == []
    has_memory = method["loss"]["name"] != "bce"
    for event in events:
        assert event["num_wrong"] > 0
        assert 0 <= event["wrong_fitted"] <= 1
        assert (event["memory_mean_auroc"] is not None) == has_memory


def test_a_run_that_was_stopped_while_it_was_measured_goes_on_to_the_same_measures(
    tiny_pack: Path, clean_labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(tiny_pack, NVUM, lab={"clean_labels": str(clean_labels), "num_images": 20})
    launch.train(asked, out=tmp_path / "undisturbed")
    with monkeypatch.context() as patched:
        stop = lambda: signal.raise_signal(signal.SIGTERM)  # noqa: E731
        patched.setattr(TrainStep, "__call__", before_step(3, stop, TrainStep.__call__))  # the epoch's last step
        launch.train(asked, out=tmp_path / "run")
    assert events_of(tmp_path / "run") == []
    launch.resume({}, out=tmp_path / "run")
    events = events_of(tmp_path / "run")
    assert [event["num_images"] for event in events] == [20, 20]
    assert events == events_of(tmp_path / "undisturbed")


def test_the_sample_is_the_same_for_every_run_on_a_pack(tiny_pack: Path, clean_labels: Path) -> None:
    data = open_training_data(tiny_pack, space_name="nvum-nih", prior_form="authors")
    few, more = (
        clean_sample(data, LabConfig(clean_labels=str(clean_labels), num_images=number)) for number in (8, 1000)
    )
    assert few is not None
    assert more is not None
    assert len(few.selection.sample_index_n) == 8
    assert more.selection.sample_index_n.tolist() == data.train.sample_index_n.tolist()
    assert set(few.selection.sample_index_n.tolist()) <= set(more.selection.sample_index_n.tolist())
    assert (np.diff(few.selection.sample_index_n) > 0).all()
    assert clean_sample(data, LabConfig()) is None


def test_labels_that_are_none_are_refused(tiny_pack: Path, tmp_path: Path) -> None:
    data = open_training_data(tiny_pack, space_name="nvum-nih", prior_form="authors")
    with pytest.raises(ManifestError, match="no such manifest"):
        clean_sample(data, LabConfig(clean_labels=str(tmp_path / "nowhere.parquet")))
    table = pq.read_table(tiny_pack / "manifest.parquet")
    elsewhere = with_column(table, "dataset", pa.array(["openi"] * table.num_rows))
    pq.write_table(elsewhere, tmp_path / "other.parquet")
    with pytest.raises(ManifestError, match=r"lab.clean_labels=.*no image in common"):
        clean_sample(data, LabConfig(clean_labels=str(tmp_path / "other.parquet")))


def test_two_processes_measure_the_whole_sample_once(tiny_pack: Path, clean_labels: Path, tmp_path: Path) -> None:
    asked = settings(tiny_pack, NVUM, loader={"batch_size": 4}, lab={"clean_labels": str(clean_labels)})
    on_ranks(2, tmp_path / "ranks", run, asked, tmp_path / "run")
    data = open_training_data(tiny_pack, space_name="nvum-nih", prior_form="authors")
    sample = clean_sample(data, LabConfig(clean_labels=str(clean_labels)))
    assert sample is not None
    last = events_of(tmp_path / "run")[-1]
    assert last["num_images"] == data.train.num_selected
    checkpoint = newest_checkpoint(tmp_path / "run")
    memory = Memory(checkpoint["memory"]["previous_NC"], data.prior_C, 2, build(TrainConfig, asked, source="test"))
    rows = sample.selection.sample_index_n
    again = memorisation(sample, Answers(rows, np.zeros(sample.clean_mC.shape, np.float32)), memory)
    assert last["memory_auroc"] == again["memory_auroc"], "of the memory that both wrote"


def test_the_report_draws_it_where_it_was_measured(tiny_pack: Path, clean_labels: Path, tmp_path: Path) -> None:
    for name, lab in (("with", {"clean_labels": str(clean_labels)}), ("without", {})):
        launch.train(settings(tiny_pack, NVUM, lab=lab), out=tmp_path / name)
        text = write_report(tmp_path / name).read_text()
        assert ("Wrong labels" in text) == (name == "with")
        assert ("AUROC on training images, clean labels" in text) == (name == "with")
