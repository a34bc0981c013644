"""Relay against its formula, one row and one finding at a time, over generations; what its settings mean."""

from math import exp, log
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.tiny_runs import newest_checkpoint, own_events, settings
from trainer import launch
from trainer.events import read_events
from trainer.losses import bce_loss
from trainer.memory import NVUMMemory
from trainer.relay import Generation, RelayConfig, assumed_rates, generation_of, label_entries, relay_step

N, B, C = 7, 4, 3
CONFIG = RelayConfig(relay_generations=3, relay_ppv=0.45, relay_sensitivity=0.6, relay_decay=0.7)
LABELLED = [0.05, 0.3, 0.6]
"""Share of labels present of each finding."""
FIRST = Generation(0, 2, 2, begins=False, reads_memory=False)
LAST = Generation(1, 2, 2, begins=True, reads_memory=True)
LOG_ODDS_C = torch.logit(torch.tensor(LABELLED, dtype=torch.float64))


def sigmoid(z: float) -> float:
    return 1 / (1 + exp(-z))


class Slow:
    """What each generation remembered, and the running average, of each row and finding, in plain Python."""

    def __init__(self) -> None:
        self.ended: list[list[list[float]]] = [[[] for _ in range(C)] for _ in range(N)]
        self.running = [[0.0] * C for _ in range(N)]

    def loss(
        self,
        z: list[list[float]],
        teacher: list[list[float]],
        y: list[list[float]],
        mask: list[list[bool]],
        index: list[int],
        generation: Generation,
    ) -> float:
        total = 0.0
        counted = sum(i >= 0 for i in index) * C
        for b, i in enumerate(index):
            if i < 0:
                continue
            for c, q in enumerate(LABELLED):
                if generation.begins:
                    self.ended[i][c].append(self.running[i][c] / (1 - 0.7**generation.length))
                    self.running[i][c] = 0.0
                self.running[i][c] = 0.7 * self.running[i][c] + 0.3 * teacher[b][c]
                if not mask[b][c]:
                    continue
                p = sigmoid(z[b][c])
                if generation.number < 2:
                    ppv, sensitivity = q + (1 - q) * 0.45, q + (1 - q) * 0.6
                    present = q * ppv / sensitivity
                    noisy = sensitivity * p + q * (1 - ppv) / (1 - present) * (1 - p)
                    total -= y[b][c] * log(noisy) + (1 - y[b][c]) * log(1 - noisy)
                else:
                    r = sigmoid(sum(self.ended[i][c]) / 2)
                    total -= r * log(p) + (1 - r) * log(1 - p)
        return total / counted


def test_losses_and_rows_are_those_of_the_formula_generation_after_generation() -> None:
    draw = torch.Generator().manual_seed(0)
    slow, memory = Slow(), NVUMMemory(N, 2 * C, dtype=torch.float64)
    targets_NC = (torch.rand(N, C, generator=draw) < 0.4).double()
    mask_NC = torch.rand(N, C, generator=draw) < 0.8
    for epoch in range(7):
        generation = generation_of(epoch, 7, CONFIG)
        order = torch.randperm(N, generator=draw)
        for rows in (order[:B], torch.cat([order[B:], torch.tensor([-1])])):
            logits_BC, teacher_BC = 4 * torch.randn(2, len(rows), C, generator=draw, dtype=torch.float64)
            targets_BC, mask_BC = targets_NC[rows.clamp(min=0)], mask_NC[rows.clamp(min=0)]
            parts = relay_step(
                logits_BC, teacher_BC, targets_BC, mask_BC, rows,
                memory=memory, log_odds_C=LOG_ODDS_C, generation=generation, config=CONFIG,
                num_global=int((rows >= 0).sum()),
            )  # fmt: skip
            expected = slow.loss(
                logits_BC.tolist(),
                teacher_BC.tolist(),
                targets_BC.tolist(),
                mask_BC.tolist(),
                rows.tolist(),
                generation,
            )
            assert float(parts.loss) == pytest.approx(expected, rel=1e-12)
        memory.end_epoch()
        means_NC = [[sum(values) / max(len(values), 1) for values in row] for row in slow.ended]
        torch.testing.assert_close(memory.previous_NC[:, :C], torch.tensor(means_NC, dtype=torch.float64))
        torch.testing.assert_close(memory.previous_NC[:, C:], torch.tensor(slow.running, dtype=torch.float64))
    assert [len(values) for values in slow.ended[0]] == [2] * C, "two generations were remembered"


def test_the_gradient_is_that_of_numerical_differentiation() -> None:
    draw = torch.Generator().manual_seed(1)
    labels_BC = torch.rand(B, C, generator=draw, dtype=torch.float64)
    logits_BC = (3 * torch.randn(B, C, generator=draw, dtype=torch.float64)).requires_grad_()
    rates = assumed_rates(LOG_ODDS_C, CONFIG)
    assert torch.autograd.gradcheck(lambda z: label_entries(z, labels_BC, rates), logits_BC)


@pytest.mark.parametrize("size", [1.0, 1e4, 1e30])
def test_labels_that_are_always_right_make_it_cross_entropy(size: float) -> None:
    draw = torch.Generator().manual_seed(2)
    config = RelayConfig(relay_ppv=1.0, relay_sensitivity=1.0)
    logits_BC = (size * torch.randn(B, C, generator=draw)).requires_grad_()
    targets_BC = (torch.rand(B, C, generator=draw) < 0.5).float()
    mask_BC, index_B = torch.rand(B, C, generator=draw) < 0.7, torch.tensor([4, -1, 0, 2])
    grads = []
    for parts in (
        bce_loss(logits_BC, targets_BC, mask_BC, index_B, num_global=3),
        relay_step(
            logits_BC, logits_BC.detach(), targets_BC, mask_BC, index_B,
            memory=NVUMMemory(N, 2 * C), log_odds_C=LOG_ODDS_C, generation=FIRST,
            config=config, num_global=3,
        ),
    ):  # fmt: skip
        (grad_BC,) = torch.autograd.grad(parts.loss, logits_BC)
        grads.append((parts.loss.detach(), grad_BC))
    torch.testing.assert_close(grads[1], grads[0])


@given(
    labelled=st.floats(1e-6, 1 - 1e-6), ppv=st.floats(0.01, 1.0), sensitivity=st.floats(0.01, 1.0)
)  # fmt: skip
def test_assumed_rates_give_the_labels_their_share_and_are_better_than_chance(
    labelled: float, ppv: float, sensitivity: float
) -> None:
    log_odds_C = torch.logit(torch.tensor([labelled], dtype=torch.float64))
    config = RelayConfig(relay_ppv=ppv, relay_sensitivity=sensitivity)
    hit, miss, false, quiet = (float(log_rate_C.exp()) for log_rate_C in assumed_rates(log_odds_C, config))
    assert hit + miss == pytest.approx(1)
    assert false + quiet == pytest.approx(1)
    assert hit > false or hit == pytest.approx(false, rel=0.05)
    present = labelled * (labelled + (1 - labelled) * ppv) / hit
    assert hit * present + false * (1 - present) == pytest.approx(labelled, rel=1e-6)


@given(num_epochs=st.integers(1, 50), generations=st.integers(1, 60))
def test_generations_share_the_epochs_evenly(num_epochs: int, generations: int) -> None:
    places = [
        generation_of(epoch, num_epochs, RelayConfig(relay_generations=generations)) for epoch in range(num_epochs)
    ]
    numbers = [place.number for place in places]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(min(generations, num_epochs)))
    sizes = [numbers.count(number) for number in sorted(set(numbers))]
    assert all(size == places[0].length for size in sizes[:-1])
    assert sizes[-1] - places[0].length < len(sizes)
    last = max(numbers)
    assert all(place.num_epochs == numbers.count(place.number) for place in places)
    assert all(place.first_epoch == numbers.index(place.number) for place in places)
    assert [place.reads_memory for place in places] == [number == last > 0 for number in numbers]
    begins = [epoch for epoch in range(num_epochs) if places[epoch].begins]
    assert begins == [epoch for epoch in range(1, num_epochs) if numbers[epoch] != numbers[epoch - 1]]


def test_a_row_that_was_never_written_learns_from_its_labels() -> None:
    memory = NVUMMemory(N, 2 * C, dtype=torch.float64)
    memory.previous_NC[1, C:] = 0.3
    logits_BC = torch.full((2, C), 0.5, dtype=torch.float64)
    both = torch.ones(2, C, dtype=torch.float64)

    def loss(row: int, generation: Generation) -> float:
        parts = relay_step(
            logits_BC[:1], logits_BC[:1], both[:1], both[:1], torch.tensor([row]),
            memory=memory, log_odds_C=LOG_ODDS_C, generation=generation, config=CONFIG, num_global=1,
        )  # fmt: skip
        return float(parts.loss)

    assert loss(0, LAST) == loss(0, FIRST)
    assert loss(1, LAST) != loss(1, FIRST)


def test_weights_begin_anew_and_the_memory_stays(tiny_pack: Path, tmp_path: Path) -> None:
    """One generation more: the epochs before it are the same, and then it begins from other weights."""
    asked = settings(
        tiny_pack,
        loss={"name": "relay", "relay_generations": 2},
        schedule={"name": "constant"},
        run={"epochs": 4},
    )
    run = launch.train(asked, out=tmp_path / "two").run
    alone = launch.train(settings(tiny_pack, asked, loss={"relay_generations": 1}), out=tmp_path / "one").run
    restarts = [
        (event["epoch"], event["step"]) for event in read_events(run / "events.jsonl") if event["event"] == "restart"
    ]
    assert restarts == [(2, 8)]
    chosen = [event["epoch"] for event in own_events(run) if event["event"] == "epoch" and event["is_best"]]
    assert 2 in chosen, "the best epoch is chosen anew"
    assert max(chosen) == newest_checkpoint(run)["best"]["epoch"]
    epochs = [[event for event in own_events(folder) if event["event"] == "epoch"] for folder in (run, alone)]
    assert epochs[0][:2] == epochs[1][:2]
    assert epochs[0][2]["loss"] != epochs[1][2]["loss"]
    memory, other = (newest_checkpoint(folder)["memory"]["previous_NC"][:, :14] for folder in (run, alone))
    assert memory.any()
    assert not other.any()


def test_each_generation_has_a_whole_schedule(tiny_pack: Path, tmp_path: Path) -> None:
    asked = settings(tiny_pack, loss={"name": "relay", "relay_generations": 2}, run={"epochs": 4, "log_every_steps": 1})
    rates = [
        event["lr"] for event in own_events(launch.train(asked, out=tmp_path / "run").run) if event["event"] == "train"
    ]
    assert rates[:8] == rates[8:] == sorted(rates[:8], reverse=True)
    assert rates[0] > 20 * rates[7]
