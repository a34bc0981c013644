"""The contenders of the loss benchmark compute the same loss, and the table says what was timed."""

import csv
from pathlib import Path

import pytest
import torch

from tools.interleaved import Part, run_parts
from tools.loss_parts import authors_way, backwards, bytes_of_a_step, make_batch, our_way
from trainer.nvum import Implementation


@pytest.mark.parametrize("implementation", ["plain", "analytic", "native"])
def test_the_authors_way_computes_our_loss_and_gradient_at_the_first_visit(implementation: Implementation) -> None:
    torch.manual_seed(0)
    batch = make_batch(50, "cpu")
    losses, grads = [], []
    for step in (authors_way(batch), our_way(batch, implementation)):
        losses.append(step().detach())
        backwards(batch, step)()
        assert batch.logits_BC.grad is not None
        grads.append(batch.logits_BC.grad)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)
    authors = backwards(batch, authors_way(batch))
    authors()
    torch.testing.assert_close(batch.logits_BC.grad, grads[1], rtol=1e-4, atol=1e-7)
    assert not torch.equal(grads[0], grads[1]), "their second step in an epoch reads what the first one wrote"


def test_bytes_of_a_step_are_counted() -> None:
    """Logits 4, teacher 2 x 4, target 4, mask 1, memory 3 x 4, gradient 4 an entry; 3 x 8 + 1 a row."""
    assert bytes_of_a_step(make_batch(10, "cpu")) == 10 * (14 * (4 + 8 + 4 + 1 + 12 + 4) + 25)


def test_a_row_says_what_was_timed_beside_whom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [
        Part("slow", "slow", 10, "samples", lambda: sum(range(20_000)), 1 << 20),
        Part("fast", "slow", 10, "samples", int),
    ]
    run_parts(parts, rounds=3, path=tmp_path / "times.csv", columns={"threads": 1})
    with (tmp_path / "times.csv").open(newline="", encoding="utf-8") as file:
        slow, fast = csv.DictReader(file)
    assert (slow["what"], slow["peer"], slow["speed_over_peer"], slow["threads"]) == ("slow", "slow", "1.000", "1")
    assert slow["num_bytes"] == str(1 << 20)
    assert float(slow["share_of_copy_bandwidth"]) > 0
    assert fast["num_bytes"] == ""
    assert "1.00 x slow" in capsys.readouterr().out
