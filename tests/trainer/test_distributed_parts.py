"""What ranks say to each other, and what their replicas become: the laws of the parts, with 2 and 3 real processes."""

import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from manifests.errors import ConfigError, UserError
from pipeline.order import epoch_order
from tests.trainer.several_ranks import on_ranks, plain_net
from tests.trainer.tiny_runs import different_leaves, same_bits
from trainer.distributed import ALONE, Ranks
from trainer.losses import LossParts, bce_loss
from trainer.memory import NVUMMemory
from trainer.memory_merge import end_epoch_of_memory_, leave_marks_to_first_, merge_memory_
from trainer.nvum import NVUMConfig, log_prior, nvum_step
from trainer.rank_endings import SaidByRankZero
from trainer.replicas import average_statistics_, data_parallel, mean_statistics
from trainer.signals import StopRequest
from trainer.sums import LossSums, merged_sums

NUM_ROWS, NUM_OUTPUTS = 500, 3
CPU = torch.device("cpu")


def epochs_of_memory(ranks: Ranks, *, batch_size: int) -> dict[str, Any]:
    """Two epochs of the loss step over this rank's share, merged as a checkpoint does in the middle of each."""
    generator = torch.Generator().manual_seed(5)
    logits_NC = 3 * torch.randn(NUM_ROWS, NUM_OUTPUTS, generator=generator)
    logits_NC[3] = float("nan")
    sample_index_n = np.arange(0, NUM_ROWS, 2)
    memory = NVUMMemory(NUM_ROWS, NUM_OUTPUTS)
    nonfinite, touched = 0, []
    for epoch in range(2):
        order = epoch_order(
            len(sample_index_n),
            epoch=epoch,
            seed=1,
            batch_size=batch_size,
            rank=ranks.rank,
            world_size=ranks.world_size,
        )
        for number, step in enumerate(order):
            index_B = torch.from_numpy(sample_index_n[step.positions_B]) + 1
            parts = nvum_step(
                logits_NC[index_B],
                logits_NC[index_B] + epoch,
                torch.zeros(len(index_B), NUM_OUTPUTS),
                torch.ones(len(index_B), NUM_OUTPUTS),
                index_B,
                memory=memory,
                log_prior_C=log_prior(torch.tensor([0.1, 0.2, 0.3])),
                perm_B=None,
                lam=1.0,
                config=NVUMConfig(),
                num_global=step.num_global,
            )
            nonfinite += int(parts.num_rows_nonfinite)
            if number in (3, 4):
                merge_memory_(memory, ranks)
                leave_marks_to_first_(memory, ranks)
        merge_memory_(memory, ranks)
        touched.append(memory.num_touched)
        memory.end_epoch()
    return {"memory": memory.state_dict(), "touched": touched, "nonfinite": sum(ranks.gather(nonfinite))}


def gradients(ranks: Ranks, shares: list[int]) -> list[torch.Tensor]:
    """Gradients of a network over this rank's share of a batch, of which rows and entries are left out."""
    generator = torch.Generator().manual_seed(7)
    num_rows = sum(shares)
    images_B1hw = torch.randn(num_rows, 1, 16, 16, generator=generator)
    targets_BC = torch.randint(0, 2, (num_rows, NUM_OUTPUTS), generator=generator).float()
    mask_BC = torch.rand(num_rows, NUM_OUTPUTS, generator=generator) < 0.7
    index_B = torch.arange(num_rows)
    index_B[1] = -1
    first = sum(shares[: ranks.rank])
    own = slice(first, first + shares[ranks.rank]) if not ranks.is_alone else slice(None)
    torch.manual_seed(3)
    student = plain_net("", NUM_OUTPUTS)
    call = data_parallel(student, ranks, CPU)
    if shares[ranks.rank] or ranks.is_alone:
        logits_BC = call(images_B1hw[own])
        parts = bce_loss(logits_BC, targets_BC[own], mask_BC[own], index_B[own], num_global=num_rows - 1)
        loss = parts.loss
    else:
        loss = call(None)
    (loss * ranks.world_size).backward()  # type: ignore[no-untyped-call]
    return [parameter.grad.clone() for parameter in student.parameters() if parameter.grad is not None]


def statistics(ranks: Ranks) -> dict[str, Any]:
    """Running statistics that differ by rank: what reading them gives, and what averaging them twice leaves."""
    norm = nn.BatchNorm2d(2)
    assert norm.running_mean is not None
    norm.running_mean.copy_(torch.tensor([0.1, 1e6]) * (1 + ranks.rank))
    read = mean_statistics([norm], ranks)[0]["running_mean"].clone()
    untouched = norm.running_mean.clone()
    average_statistics_([norm], ranks)
    once = norm.running_mean.clone()
    average_statistics_([norm], ranks)
    return {"read": read, "untouched": untouched, "once": once, "twice": norm.running_mean.clone()}


def raised(call: Callable[[], object]) -> tuple[str, str]:
    try:
        call()
    except (UserError, RuntimeError, SaidByRankZero) as error:
        return type(error).__name__, str(error)
    return "", ""


def written_by_two(ranks: Ranks) -> None:
    memory = NVUMMemory(9, 2)
    memory.touched_N[[4, ranks.rank]] = True
    merge_memory_(memory, ranks)


def fail_on_rank_1(ranks: Ranks) -> None:
    with ranks.together():
        if ranks.rank == 1:
            raise ConfigError("the pack is gone; mount it")


def fail_on_all(ranks: Ranks) -> None:
    with ranks.together():
        raise ConfigError("no such setting")


def make_in_vain(ranks: Ranks) -> str:
    def make() -> str:
        raise ConfigError("cannot be made")

    return ranks.from_first(make)


def summed(ranks: Ranks) -> dict[str, Any]:
    """Sums of a loss after a step that was taken and one that was not, read and merged."""
    sums = LossSums(CPU)
    one, number = torch.tensor(1.0), torch.tensor(ranks.rank)
    sums.add(LossParts(loss=one, bce=one, reg=one, num_rows_skipped=number, num_rows_nonfinite=number), 10)
    left_out = LossParts(
        loss=one * float("nan"), bce=one, reg=one, num_rows_skipped=number, num_rows_nonfinite=number,
        applied=torch.tensor(False),
    )  # fmt: skip
    sums.add(left_out, 10)
    states = ranks.gather(sums.state_dict())
    merged = LossSums(CPU)
    merged.load_state_dict(merged_sums(states))
    return {
        "means": sums.read(ranks),
        "merged": merged.read(ALONE),
        "left": different_leaves(sums.state_dict(), states[ranks.rank]),
    }


def agreed(ranks: Ranks) -> tuple[list[bool], signal.Signals | None]:
    with StopRequest() as stop:
        due = [stop.agree(ranks, is_due=ranks.rank == one) for one in (0, 1)]
        if ranks.rank == 1:
            signal.raise_signal(signal.SIGTERM)
        stop.agree(ranks)
        return due, stop.signal


def laboratory(ranks: Ranks) -> dict[str, Any]:
    """All that is tried in one launch."""
    ranks = ranks.for_device(CPU)
    shares = [3, 2, 0][-ranks.world_size :]
    return {
        "gathered": (ranks.gather(ranks.rank), ranks.gather_first(ranks.rank)),
        "from_first": ranks.from_first(lambda: f"of rank {ranks.rank}"),
        "largest": ranks.largest(ranks.rank, -ranks.rank),
        "all_true": [bool(ranks.all_true(torch.tensor(value))) for value in (True, ranks.rank == 0, False)],
        "sum": ranks.sum_(torch.tensor([1, ranks.rank])).tolist(),
        "memory": epochs_of_memory(ranks, batch_size=4),
        "gradients": gradients(ranks, shares),
        "statistics": statistics(ranks),
        "sums": summed(ranks),
        "agreed": agreed(ranks),
        "errors": {
            "one rank": raised(lambda: fail_on_rank_1(ranks)),
            "all ranks": raised(lambda: fail_on_all(ranks)),
            "making": raised(lambda: make_in_vain(ranks)),
            "written twice": raised(lambda: written_by_two(ranks)),
            "difference": raised(lambda: ranks.refuse_differences([("seed", 1), ("pack", ranks.rank)])),
            "no difference": raised(lambda: ranks.refuse_differences([("seed", 1)])),
        },
    }


@pytest.fixture(scope="module", params=[2, 3])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two or three ranks found."""
    return on_ranks(request.param, tmp_path_factory.mktemp("laboratory") / "ranks", laboratory)


def test_words_reach_every_rank(results: list[dict[str, Any]]) -> None:
    world_size = len(results)
    everyone = list(range(world_size))
    for rank, found in enumerate(results):
        assert found["gathered"] == (everyone, everyone if rank == 0 else [])
        assert found["from_first"] == "of rank 0"
        assert found["largest"] == (world_size - 1, 0)
        assert found["all_true"] == [True, False, False]
        assert found["sum"] == [world_size, sum(everyone)]


def test_memory_after_two_epochs_has_the_bits_of_one_process(results: list[dict[str, Any]]) -> None:
    alone = epochs_of_memory(ALONE, batch_size=8)
    assert alone["touched"] == [249, 249]
    assert alone["nonfinite"] == 2
    for found in results:
        assert found["memory"]["touched"] == alone["touched"]
        assert found["memory"]["nonfinite"] == alone["nonfinite"]
        for name, tensor in alone["memory"].items():
            if name != "current_NC":  # after an epoch it is whatever was read before
                assert same_bits(found["memory"]["memory"][name], tensor), name


def test_a_merge_keeps_the_sign_of_zero_and_the_bits_of_nan() -> None:
    # The sum of whole numbers that `merge_memory_` takes instead of one of floats.
    row = torch.tensor([-0.0, float("nan"), float("inf"), 1e-45])
    assert same_bits((row.view(torch.int32) + torch.zeros(4).view(torch.int32)).view(torch.float32), row)
    assert not same_bits(row + torch.zeros(4), row)


def test_a_row_too_few_or_too_many_is_noticed_at_the_epochs_end() -> None:
    memory = NVUMMemory(9, 2)
    index_B = torch.tensor([1, 4])
    memory.write(index_B, torch.ones(2, 2), index_B >= 0)
    sums = LossSums(CPU)
    zero, one = torch.tensor(0.0), torch.tensor(1)
    sums.add(LossParts(loss=zero, bce=zero, reg=zero, num_rows_skipped=one, num_rows_nonfinite=one), 4)
    means = sums.read(ALONE)
    for num_selected in (3, 5):
        with pytest.raises(RuntimeError, match=f"2 rows were written in epoch 7, expected {num_selected - 2}: "):
            end_epoch_of_memory_(memory, means, num_selected=num_selected, epoch=7, ranks=ALONE)
    assert not memory.previous_NC.any()
    end_epoch_of_memory_(memory, means, num_selected=4, epoch=7, ranks=ALONE)
    assert memory.previous_NC.any(dim=1).nonzero().flatten().tolist() == [1, 4]
    assert memory.num_touched == 0


def test_gradients_are_those_of_one_process(results: list[dict[str, Any]]) -> None:
    shares = [3, 2, 0][-len(results) :]
    expected = gradients(ALONE, shares)
    for found in results:
        assert len(found["gradients"]) == len(expected)
        for one, other in zip(found["gradients"], expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    for one, other in zip(results[0]["gradients"], results[-1]["gradients"], strict=True):
        assert same_bits(one, other), "all ranks take the same step"


def test_statistics_are_averaged_once_and_read_without_a_change(results: list[dict[str, Any]]) -> None:
    mean = torch.tensor([0.1, 1e6]) * (1 + len(results)) / 2
    for rank, found in enumerate(results):
        seen = found["statistics"]
        assert same_bits(seen["untouched"], torch.tensor([0.1, 1e6]) * (1 + rank))
        torch.testing.assert_close(seen["read"], mean)
        assert same_bits(seen["once"], seen["read"])
        assert same_bits(seen["twice"], seen["once"])


def test_sums_are_those_of_all_ranks_however_they_are_read(results: list[dict[str, Any]]) -> None:
    world_size = len(results)
    for found in results:
        means = found["sums"]["means"]
        assert means == found["sums"]["merged"]
        assert means.loss == world_size, "each rank's loss is its share of the sum"
        assert (means.num_samples, means.num_steps_skipped) == (10, 1)
        assert means.num_rows_skipped == means.num_rows_nonfinite == 2 * sum(range(world_size))
        assert found["sums"]["left"] == [], "reading changes nothing"


def test_a_signal_to_one_rank_stops_all_and_only_the_clock_of_rank_0_counts(results: list[dict[str, Any]]) -> None:
    assert [found["agreed"] for found in results] == [([True, False], signal.SIGTERM)] * len(results)


def test_an_error_is_said_by_rank_0_once(results: list[dict[str, Any]]) -> None:
    first, *others = (found["errors"] for found in results)
    assert first["one rank"] == ("UserError", "rank 1: the pack is gone; mount it")
    assert first["all ranks"] == ("ConfigError", "no such setting")
    assert first["making"] == ("ConfigError", "cannot be made")
    assert first["written twice"][0] == "RuntimeError"
    assert "1 rows were written by several ranks: 4" in first["written twice"][1]
    assert "rank 1: another pack than rank 0: found 1, expected 0" in first["difference"][1]
    assert first.pop("no difference") == ("", "")
    for other in others:
        assert other.pop("no difference") == ("", "")
        assert {kind for kind, _ in other.values()} == {"SaidByRankZero"}
