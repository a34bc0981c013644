"""Laws of the double-buffered memory."""

import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import ConfigError
from trainer.memory import NVUMMemory


def write(memory: NVUMMemory, index: list[int], value: float, written: list[bool] | None = None) -> None:
    index_B = torch.tensor(index, dtype=torch.int64)
    rows_BC = torch.full((len(index), memory.num_outputs), value)
    memory.write(index_B, rows_BC, torch.tensor(written) if written is not None else index_B >= 0)


def test_rows_start_at_zero_and_untouched() -> None:
    memory = NVUMMemory(5, 3)
    assert (memory.previous_NC == 0).all()
    assert memory.previous_NC.shape == (5, 3)
    assert memory.previous_NC.dtype == torch.float32
    assert memory.num_touched == 0


def test_a_write_is_read_only_after_the_epoch() -> None:
    memory = NVUMMemory(4, 2)
    write(memory, [2], 7.0)
    assert (memory.read(torch.tensor([2])) == 0).all()
    memory.end_epoch()
    assert (memory.read(torch.tensor([2])) == 7).all()


@given(
    num_rows=st.integers(1, 30),
    epochs=st.lists(st.lists(st.tuples(st.integers(0, 29), st.booleans()), max_size=40), min_size=1, max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_memory_equals_a_list_of_rows(num_rows: int, epochs: list[list[tuple[int, bool]]]) -> None:
    """The slow oracle: a Python list that is updated at the end of each epoch."""
    memory, oracle = NVUMMemory(num_rows, 1), [0.0] * num_rows
    value = 0.0
    for visits in epochs:
        written: dict[int, float] = {}
        for row, counts in visits:
            value += 1.0
            if row < num_rows:
                write(memory, [row, -1], value, [counts, False])
                if counts:
                    written[row] = value
        assert memory.num_touched == len(written)
        assert memory.previous_NC.flatten().tolist() == oracle
        memory.end_epoch()
        for row, new in written.items():
            oracle[row] = new
    assert memory.previous_NC.flatten().tolist() == oracle
    assert memory.num_touched == 0


def test_untouched_rows_survive_epochs_bit_for_bit() -> None:
    memory = NVUMMemory(50, 14)
    rows_NC = torch.randn(50, 14, generator=torch.Generator().manual_seed(0))
    memory.write(torch.arange(50), rows_NC, torch.ones(50, dtype=torch.bool))
    memory.end_epoch()
    for epoch in range(5):
        write(memory, [epoch], float(epoch))
        memory.end_epoch()
    assert torch.equal(memory.previous_NC[5:], rows_NC[5:])


@pytest.mark.parametrize("row", [0, 6])
def test_rows_that_are_not_written_do_not_race_with_the_first_or_last_row(row: int) -> None:
    memory = NVUMMemory(7, 3)
    write(memory, [-1, row, -1, 3, -1], 5.0, [False, True, False, False, False])
    assert memory.num_touched == 1
    memory.end_epoch()
    assert memory.previous_NC[:, 0].nonzero().flatten().tolist() == [row]
    assert (memory.read(torch.tensor([-1])) == 0).all()


def test_snapshot_in_the_middle_of_an_epoch_goes_on_as_if_nothing_happened() -> None:
    memory = NVUMMemory(6, 2)
    write(memory, [0, 1, 2], 1.0)
    memory.end_epoch()
    write(memory, [1, 4], 2.0)
    file = io.BytesIO()
    torch.save(memory.state_dict(), file)
    file.seek(0)
    resumed = NVUMMemory(6, 2)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for each in (memory, resumed):
        write(each, [2], 3.0)
        assert each.num_touched == 3
        each.end_epoch()
    assert torch.equal(memory.previous_NC, resumed.previous_NC)
    assert memory.previous_NC[:, 0].tolist() == [1, 2, 3, 0, 2, 0]


def test_a_snapshot_does_not_change_afterwards() -> None:
    memory = NVUMMemory(3, 1)
    write(memory, [0], 1.0)
    snapshot = memory.state_dict()
    write(memory, [1], 2.0)
    memory.end_epoch()
    assert snapshot["touched_N"].tolist() == [True, False, False]
    assert snapshot["current_NC"].flatten().tolist() == [1, 0, 0]


@pytest.mark.parametrize("shape", [(7, 2), (6, 3)])
def test_snapshot_of_another_shape_is_refused_and_changes_nothing(shape: tuple[int, int]) -> None:
    memory = NVUMMemory(6, 2)
    write(memory, [0], 1.0)
    other = NVUMMemory(*shape)
    with pytest.raises(ConfigError, match=rf"{shape[0]} x {shape[1]} .*this run has 6 x 2"):
        memory.load_state_dict(other.state_dict())
    assert memory.num_touched == 1


def test_something_else_than_a_snapshot_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected"):
        NVUMMemory(6, 2).load_state_dict({"weight": torch.zeros(6, 2)})
