"""Whole runs of 2 and 3 real processes: each sample once, one model, and the bits after a stop."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from manifests.label_spaces import label_space
from manifests.selection import select
from pipeline.pack import open_pack
from tests.trainer.several_ranks import Seen, on_ranks, run
from tests.trainer.tiny_runs import (
    NVUM,
    assert_same_run,
    different_leaves,
    newest_checkpoint,
    own_events,
    repacked,
    settings,
    with_column,
)
from trainer.distributed import ALONE, Ranks
from trainer.evaluation.evaluate import EvaluateConfig, evaluate
from trainer.evaluation.metrics import measure
from trainer.evaluation.predictions import read_predictions
from trainer.events import read_events
from trainer.run_folder import RunFolder
from trainer.sections import Values

STOP_AFTER = 4
"""Steps after which ranks agree that one of them got a signal before its third one (`AGREE_EVERY_STEPS`)."""


def with_normal_statistics(pack: Path) -> Values:
    """nvum with teacher, augmentation and memory mixup; checkpoints within epochs; 8 steps an epoch for two ranks."""
    return settings(
        pack, NVUM, loader={"batch_size": 2}, run={"checkpoint_every_steps": 3, "log_every_steps": 1, "epochs": 2}
    )


def without_batch_statistics(pack: Path, *, batch_size: int) -> Values:
    """What several processes compute as one does, in parts; a schedule that moves the learning rate at every step."""
    return settings(
        pack,
        NVUM,
        data={"label_space": "nih14"},
        loader={"batch_size": batch_size},
        loss={"mixup": False},
        step={"accumulate": 2},
        optim={"name": "sgd", "lr": 0.5},
        schedule={"name": "cosine", "warmup_epochs": 0.5},
        run={"log_every_steps": 1},
    )


def with_new_weights(pack: Path, *, batch_size: int) -> Values:
    """The same with weights that begin anew before the second epoch, which learns from the memory of the first."""
    loss = {"name": "relay", "relay_generations": 2}
    return settings(pack, without_batch_statistics(pack, batch_size=batch_size), loss=loss)


def fifteen_with_gaps(table: pa.Table) -> pa.Table:
    """15 training rows, so that two ranks share a tail of 3; some of the labels are missing."""
    splits = table["split"].to_pylist()
    splits[splits.index("train")] = "test"
    table = with_column(table, "split", pa.array(splits))
    gaps = [None if row % 3 == 0 else value for row, value in enumerate(table["Mass"].to_pylist())]
    return with_column(table, "Mass", pa.array(gaps, pa.int8()))


def two_and_two(table: pa.Table) -> pa.Table:
    """Two training rows and two of validation: three ranks, of which one has nothing to do."""
    return with_column(table, "split", pa.array(["train"] * 2 + ["valid"] * 2 + ["test"] * (len(table) - 4)))


def of_two(ranks: Ranks, packs: dict[str, Path], folder: Path) -> dict[str, Seen]:
    """The runs of two processes."""
    asked = with_normal_statistics(packs["usual"])
    seen = {
        "undisturbed": run(ranks, asked, folder / "undisturbed"),
        "stopped": run(ranks, asked, folder / "stopped", stop=(1, 2)),
    }
    ranks.from_first(lambda: [shutil.copytree(folder / "stopped", folder / f"resumed-{n}") for n in (1, 2, 3)])
    seen["resumed"] = run(ranks, asked, folder / "resumed-2")
    ranks.from_first(lambda: [shutil.copytree(folder / "undisturbed", folder / f"evaluated-{n}") for n in (1, 2)])
    evaluate(EvaluateConfig(run=folder / "evaluated-2", device="cpu"), ranks=ranks)
    seen["plain"] = run(ranks, without_batch_statistics(packs["gaps"], batch_size=2), folder / "plain-2", plain=True)
    seen["relay"] = run(ranks, with_new_weights(packs["gaps"], batch_size=2), folder / "relay-2", plain=True)
    return seen


def of_three(ranks: Ranks, packs: dict[str, Path], folder: Path) -> dict[str, Seen]:
    """The runs of three processes."""
    asked = with_normal_statistics(packs["usual"])
    return {
        "resumed": run(ranks, asked, folder / "resumed-3"),
        "undisturbed": run(ranks, asked, folder / "three"),
        "stopped": run(ranks, asked, folder / "three-stopped", stop=(2, 2)),
        "went on": run(ranks, asked, folder / "three-stopped"),
        "plain": run(ranks, without_batch_statistics(packs["gaps"], batch_size=5), folder / "plain-3", plain=True),
        "few": run(ranks, without_batch_statistics(packs["few"], batch_size=2), folder / "few-3", plain=True),
    }


@pytest.fixture(scope="module")
def packs(tiny_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        "usual": tiny_pack,
        "gaps": repacked(tmp_path_factory.mktemp("gaps"), fifteen_with_gaps),
        "few": repacked(tmp_path_factory.mktemp("few"), two_and_two),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def two(packs: dict[str, Path], folder: Path) -> list[dict[str, Seen]]:
    return on_ranks(2, folder / "ranks-2", of_two, packs, folder)


@pytest.fixture(scope="module")
def three(two: list[dict[str, Seen]], packs: dict[str, Path], folder: Path) -> list[dict[str, Seen]]:
    return on_ranks(3, folder / "ranks-3", of_three, packs, folder)


def train_rows(pack: Path, space: str = "nvum-nih") -> list[int]:
    opened = open_pack(pack)
    rows: list[int] = select(opened.manifest(), label_space(space), "train", opened.rejected).sample_index_n.tolist()
    return rows


def epochs_of(*parts: list[list[list[int]]], num_rows: int) -> list[list[int]]:
    """The rows of each epoch, sorted: `parts` are the steps of the ranks, one list of ranks after the other."""
    stream = [row for ranks in parts for step in zip(*ranks, strict=True) for share in step for row in share]
    return [sorted(stream[first : first + num_rows]) for first in range(0, len(stream), num_rows)]


def steps(seen: list[dict[str, Seen]], name: str) -> list[list[list[int]]]:
    return [rank[name].steps for rank in seen]


def test_every_sample_comes_once_an_epoch(
    two: list[dict[str, Seen]], three: list[dict[str, Seen]], packs: dict[str, Path]
) -> None:
    rows = train_rows(packs["usual"])
    assert epochs_of(steps(two, "undisturbed"), num_rows=len(rows)) == [rows, rows]
    assert epochs_of(steps(three, "undisturbed"), num_rows=len(rows)) == [rows, rows]
    stopped = steps(two, "stopped")
    assert [len(rank) for rank in stopped] == [STOP_AFTER] * 2, "agreed in the middle of an epoch"
    assert epochs_of(stopped, steps(two, "resumed"), num_rows=len(rows)) == [rows, rows]
    assert epochs_of(stopped, steps(three, "resumed"), num_rows=len(rows)) == [rows, rows], "by three, then"


def test_every_rank_has_the_same_model(two: list[dict[str, Seen]], three: list[dict[str, Seen]]) -> None:
    for first, *others in (two, three):
        for name, ours in first.items():
            for theirs in (rank[name] for rank in others):
                # In the middle of an epoch running statistics are each rank's own.
                differing = [leaf for leaf in different_leaves(ours.weights, theirs.weights) if "running" not in leaf]
                assert differing == [], name
                if ours.finished:
                    assert different_leaves(ours.weights, theirs.weights) == [], name
                    assert np.array_equal(ours.probs, theirs.probs), name


def test_validation_measures_each_row_once(two: list[dict[str, Seen]], folder: Path, packs: dict[str, Path]) -> None:
    pack = open_pack(packs["usual"])
    selection = select(pack.manifest(), label_space("nvum-nih"), "valid", pack.rejected)
    rows_n = selection.sample_index_n
    expected = measure(
        two[0]["undisturbed"].probs, selection.targets_NC[rows_n], selection.mask_NC[rows_n], selection.space.findings
    )
    *_, last = (event for event in own_events(folder / "undisturbed") if event["event"] == "epoch")
    assert last["valid_mean_auroc"] == pytest.approx(expected.mean_auroc, abs=1e-9)


def test_evaluation_by_two_ranks_is_that_of_one(two: list[dict[str, Seen]], folder: Path) -> None:
    one, other = (folder / f"evaluated-{n}" for n in (1, 2))
    evaluate(EvaluateConfig(run=one, device="cpu"))
    expected, found = (read_predictions(run / "predictions-nih-test.parquet") for run in (one, other))
    assert found.sample_index_n.tolist() == sorted(set(expected.sample_index_n.tolist()))
    np.testing.assert_allclose(found.probs_nC, expected.probs_nC, rtol=0, atol=1e-6)
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (one, other)]
    assert metrics[0].keys() == metrics[1].keys()
    assert found.probs_nC.shape == expected.probs_nC.shape


def test_a_run_that_one_rank_was_asked_to_stop_goes_on_with_the_same_bits(
    two: list[dict[str, Seen]], three: list[dict[str, Seen]], folder: Path
) -> None:
    assert not two[0]["stopped"].finished
    (stop,) = (event for event in read_events(folder / "stopped" / "events.jsonl") if event["event"] == "stop")
    assert (stop["step"], stop["signal"]) == (STOP_AFTER, "SIGTERM")
    assert_same_run(folder / "undisturbed", folder / "resumed-2")
    assert_same_run(folder / "three", folder / "three-stopped")


def test_the_memory_of_half_an_epoch_is_whole_in_the_checkpoint(two: list[dict[str, Seen]], folder: Path) -> None:
    checkpoint = newest_checkpoint(folder / "stopped")
    seen = sorted(row for rank in two for step in rank["stopped"].steps for row in step)
    assert checkpoint["cursor"]["consumed"] == len(seen) == 16
    assert checkpoint["memory"]["touched_N"].nonzero().flatten().tolist() == seen
    assert bool((checkpoint["memory"]["current_NC"][seen].abs().amax(dim=1) > 0).all())
    assert checkpoint["world_size"] == len(checkpoint["ranks"]) == 2


@pytest.mark.parametrize("world_size", [1, 3])
def test_another_number_of_processes_goes_on_where_it_stopped(
    world_size: int, two: list[dict[str, Seen]], three: list[dict[str, Seen]], packs: dict[str, Path], folder: Path
) -> None:
    out = folder / f"resumed-{world_size}"
    if world_size == 1:
        seen = run(ALONE, with_normal_statistics(packs["usual"]), out)
        rows = train_rows(packs["usual"])
        begun = epochs_of(steps(two, "stopped"), num_rows=len(rows))[0]
        assert sorted(begun + [row for step in seen.steps for row in step]) == sorted(rows + rows)
    events = list(read_events(out / "events.jsonl"))
    (resumed,) = (event for event in events if event["event"] == "resume")
    assert (resumed["step"], resumed["world_size"]) == (STOP_AFTER, world_size)
    (warning,) = (event["message"] for event in events if "processes" in event.get("message", ""))
    assert warning.startswith(f"{world_size} processes, the checkpoint was written by 2: from here on a step has")
    assert events[-1]["event"] == "end"
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [event["num_samples"] for event in epochs] == [30, 30]
    assert all(np.isfinite(event["loss"]) for event in epochs)
    before = [event for event in own_events(folder / "undisturbed") if event["event"] == "train"][:STOP_AFTER]
    after = [event for event in own_events(out) if event["event"] == "train"][:STOP_AFTER]
    assert after == before, "what two had done stays"
    memory = newest_checkpoint(out)["memory"]
    assert memory["previous_NC"].abs().amax(dim=1).nonzero().flatten().tolist() == train_rows(packs["usual"])


@pytest.mark.parametrize(("world_size", "batch_size", "pack"), [(2, 2, "gaps"), (3, 5, "gaps"), (3, 2, "few")])
def test_without_batch_statistics_and_mixup_it_is_the_run_of_one_process(
    world_size: int,
    batch_size: int,
    pack: str,
    two: list[dict[str, Seen]],
    three: list[dict[str, Seen]],
    packs: dict[str, Path],
    folder: Path,
) -> None:
    name = "plain" if pack == "gaps" else "few"
    out_alone, out = folder / f"alone-{world_size}-{pack}", folder / f"{name}-{world_size}"
    ranks = two if world_size == 2 else three
    alone = run(ALONE, without_batch_statistics(packs[pack], batch_size=world_size * batch_size), out_alone, plain=True)
    if pack == "few":
        assert [[len(step) for step in rank[name].steps] for rank in ranks] == [[1, 1], [1, 1], [0, 0]]
    for key, weight in alone.weights.items():
        torch.testing.assert_close(ranks[0][name].weights[key], weight, rtol=1e-4, atol=1e-6)
    for one, other in zip(own_events(out_alone), own_events(out), strict=True):
        for key in one.keys() & {"loss", "bce", "reg", "lr", "num_samples", "step"}:
            assert other[key] == pytest.approx(one[key], rel=1e-5, abs=1e-7), (one["event"], one["step"], key)
    expected, found = (newest_checkpoint(run)["memory"]["previous_NC"] for run in (out_alone, out))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_two_ranks_share_a_tail_of_three(two: list[dict[str, Seen]]) -> None:
    assert [[len(step) for step in rank["plain"].steps] for rank in two] == [[2, 2, 2, 2] * 2, [2, 2, 2, 1] * 2]


def test_rank_0_alone_writes(three: list[dict[str, Seen]], folder: Path) -> None:
    found = {path.name for path in (folder / "three").iterdir()}
    assert found == {"config.json", "events.jsonl", "checkpoints", "lock"}
    assert [event["event"] for event in read_events(folder / "three" / "events.jsonl")].count("end") == 1
    (start,) = (event for event in read_events(folder / "three" / "events.jsonl") if event["event"] == "start")
    assert start["world_size"] == 3
    assert RunFolder(folder=folder / "three").read_config().run.num_threads == 1


def test_weights_that_begin_anew_are_those_of_one_process(
    two: list[dict[str, Seen]], packs: dict[str, Path], folder: Path
) -> None:
    alone = run(ALONE, with_new_weights(packs["gaps"], batch_size=4), folder / "relay-alone", plain=True)
    assert [
        event["epoch"] for event in read_events(folder / "relay-2" / "events.jsonl") if event["event"] == "restart"
    ] == [1]
    for key, weight in alone.weights.items():
        torch.testing.assert_close(two[0]["relay"].weights[key], weight, rtol=1e-4, atol=1e-6)
        assert torch.equal(two[0]["relay"].weights[key], two[1]["relay"].weights[key])
    expected, found = (newest_checkpoint(folder / name)["memory"]["previous_NC"] for name in ("relay-alone", "relay-2"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
