"""Early-learning regularisation against its formula, one row and one finding at a time, over several epochs."""

from math import exp, log

import pytest
import torch

from trainer.elr import ELRConfig, elr_step
from trainer.memory import NVUMMemory

N, B, C = 7, 4, 3
CONFIG = ELRConfig(elr_weight=1.7, elr_decay=0.6)
PRESENT = ELRConfig(elr_weight=1.7, elr_decay=0.6, elr_form="present")


class Slow:
    """The two running averages of each row and finding, in plain Python."""

    def __init__(self, config: ELRConfig) -> None:
        self.config = config
        self.present = [[0.0] * C for _ in range(N)]
        self.absent = [[0.0] * C for _ in range(N)]

    def loss(self, z: list[list[float]], y: list[list[float]], mask: list[list[bool]], index: list[int]) -> float:
        total = 0.0
        counted = sum(i >= 0 for i in index) * C
        for b, i in enumerate(index):
            if i < 0:
                continue
            for c in range(C):
                p = 1 / (1 + exp(-z[b][c]))
                clamped = min(max(p, 1e-4), 1 - 1e-4)
                self.present[i][c] = 0.6 * self.present[i][c] + 0.4 * clamped
                self.absent[i][c] = 0.6 * self.absent[i][c] + 0.4 * (1 - clamped)
                if mask[b][c]:
                    agreement = self.present[i][c] * clamped
                    if self.config.elr_form == "both":
                        agreement += self.absent[i][c] * (1 - clamped)
                    entropy = -(y[b][c] * log(p) + (1 - y[b][c]) * log(1 - p))
                    total += (entropy + 1.7 * log(1 - agreement)) / counted
        return total


@pytest.mark.parametrize("config", [CONFIG, PRESENT])
def test_losses_and_averages_are_those_of_the_formula_epoch_after_epoch(config: ELRConfig) -> None:
    draw = torch.Generator().manual_seed(0)
    slow, memory = Slow(config), NVUMMemory(N, 2 * C, dtype=torch.float64)
    targets_NC = (torch.rand(N, C, generator=draw) < 0.4).double()
    mask_NC = torch.rand(N, C, generator=draw) < 0.8
    for _ in range(4):
        order = torch.randperm(N, generator=draw)
        for rows in (order[:B], torch.cat([order[B:], torch.tensor([-1])])):
            logits_BC = 4 * torch.randn(len(rows), C, generator=draw, dtype=torch.float64)
            targets_BC, mask_BC = targets_NC[rows.clamp(min=0)], mask_NC[rows.clamp(min=0)]
            parts = elr_step(
                logits_BC, targets_BC, mask_BC, rows, memory=memory, config=config, num_global=int((rows >= 0).sum())
            )
            expected = slow.loss(logits_BC.tolist(), targets_BC.tolist(), mask_BC.tolist(), rows.tolist())
            assert float(parts.loss) == pytest.approx(expected, rel=1e-12)
        memory.end_epoch()
        torch.testing.assert_close(memory.previous_NC[:, :C], torch.tensor(slow.present, dtype=torch.float64))
        torch.testing.assert_close(memory.previous_NC[:, C:], torch.tensor(slow.absent, dtype=torch.float64))


def test_the_gradient_is_that_of_numerical_differentiation_with_the_averages_held() -> None:
    """The averages take in this step's prediction, but no gradient flows through them."""
    draw = torch.Generator().manual_seed(1)
    index_B = torch.tensor([2, -1, 0, 5])
    targets_BC = (torch.rand(B, C, generator=draw) < 0.5).double()
    mask_BC = torch.rand(B, C, generator=draw) < 0.8
    logits_BC = torch.randn(B, C, generator=draw, dtype=torch.float64)

    def filled() -> NVUMMemory:
        memory = NVUMMemory(N, 2 * C, dtype=torch.float64)
        memory.previous_NC.copy_(torch.linspace(0.1, 0.4, N * 2 * C, dtype=torch.float64).view(N, 2 * C))
        return memory

    trained_BC = logits_BC.clone().requires_grad_()
    parts = elr_step(trained_BC, targets_BC, mask_BC, index_B, memory=filled(), config=CONFIG, num_global=3)
    (grad_BC,) = torch.autograd.grad(parts.loss, trained_BC)

    old_BD = filled().read(index_B)
    probs_BC = logits_BC.sigmoid()
    held_BD = 0.6 * old_BD + 0.4 * torch.cat([probs_BC, 1 - probs_BC], dim=1)

    def loss(moved_BC: torch.Tensor) -> torch.Tensor:
        p_BC = moved_BC.sigmoid()
        agreement_BC = held_BD[:, :C] * p_BC + held_BD[:, C:] * (1 - p_BC)
        entry_BC = 1.7 * torch.log(1 - agreement_BC) - targets_BC * p_BC.log() - (1 - targets_BC) * (1 - p_BC).log()
        return (entry_BC * mask_BC * (index_B >= 0).unsqueeze(1)).sum() / (3 * C)

    step = 1e-6
    for b in range(B):
        for c in range(C):
            move_BC = torch.zeros(B, C, dtype=torch.float64)
            move_BC[b, c] = step
            slope = (loss(logits_BC + move_BC) - loss(logits_BC - move_BC)) / (2 * step)
            assert float(grad_BC[b, c]) == pytest.approx(float(slope), abs=1e-8)


def test_a_row_that_is_not_finite_keeps_its_averages_and_is_counted() -> None:
    memory = NVUMMemory(N, 2 * C)
    memory.previous_NC.fill_(0.25)
    logits_BC = torch.zeros(B, C)
    logits_BC[1, 2] = float("inf")
    mask_BC = torch.ones(B, C, dtype=torch.bool)
    mask_BC[1, 2] = False
    index_B = torch.tensor([0, 1, 2, -1])
    parts = elr_step(logits_BC, torch.zeros(B, C), mask_BC, index_B, memory=memory, config=CONFIG, num_global=3)
    assert bool(parts.loss.isfinite())
    assert (int(parts.num_rows_nonfinite), int(parts.num_rows_skipped)) == (1, 1)
    assert memory.touched_N.tolist() == [True, False, True, False, False, False, False]
