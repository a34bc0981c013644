"""One memory out of the replicas of all ranks: every row was written by one rank at most, so a sum puts them together.

Shapes in names: N rows of the pack, C outputs.
"""

import torch

from trainer.distributed import Ranks
from trainer.memory import NVUMMemory
from trainer.sums import LossMeans


@torch.no_grad()
def merge_memory_(memory: NVUMMemory, ranks: Ranks) -> None:
    """Give every replica the rows that any of them wrote in this epoch, and the marks of all, to the bit.

    The bits are added up as whole numbers: a row is zero on all ranks but one, and as a float -0.0 + 0.0 would be 0.0.
    Costs one all-reduce of the rows and one of a byte a row; where nobody has written, only the latter.

    Raises:
        RuntimeError: a row was written by several ranks, so which of them counts is unknown.
    """
    if ranks.is_alone:
        return
    touched_N = memory.touched_N
    times_N = ranks.sum_(touched_N.to(torch.uint8 if ranks.world_size < 256 else torch.int32))
    most = int(times_N.max()) if len(times_N) else 0
    if most > 1:
        rows = torch.nonzero(times_N > 1).flatten()
        shown = ", ".join(map(str, rows[:5].tolist()))
        raise ranks.shared(RuntimeError(f"memory: {len(rows):,} rows were written by several ranks: {shown}, ..."))
    if most == 0:
        return
    bits_NC = memory.current_NC.view(_WHOLE_NUMBER[memory.current_NC.element_size()])
    # All ones where touched, else zero: a quarter of the time that `masked_fill_` takes, whatever the bits.
    bits_NC.bitwise_and_(-touched_N.to(bits_NC.dtype).unsqueeze(1))
    ranks.sum_(bits_NC)
    touched_N.copy_(times_N > 0)


@torch.no_grad()
def leave_marks_to_first_(memory: NVUMMemory, ranks: Ranks) -> None:
    """After a merge in the middle of an epoch: rank 0 keeps the rows that are written, the others begin anew.

    So that the next merge finds each row with one rank again.
    """
    if not ranks.is_first:
        memory.touched_N.zero_()


def end_epoch_of_memory_(memory: NVUMMemory, means: LossMeans, *, num_selected: int, epoch: int, ranks: Ranks) -> None:
    """Merge the replicas, count the rows, and let the next epoch read what this one wrote.

    Args:
        memory: this rank's replica.
        means: of the epoch over all ranks: rows that were skipped, and whose teacher was not finite.
        num_selected: training rows.
        epoch: which one, for the message.
        ranks: the processes of the run.

    Raises:
        RuntimeError: a row was written by two ranks, or written + skipped + not finite are not the selected ones.
    """
    merge_memory_(memory, ranks)
    num_touched = memory.num_touched
    expected = num_selected - means.num_rows_skipped - means.num_rows_nonfinite
    if num_touched != expected:
        raise ranks.shared(
            RuntimeError(
                f"memory: {num_touched:,} rows were written in epoch {epoch}, expected {expected:,}: {num_selected:,} "
                f"selected, {means.num_rows_skipped:,} skipped, {means.num_rows_nonfinite:,} not finite"
            )
        )
    memory.end_epoch()


_WHOLE_NUMBER = {4: torch.int32, 8: torch.int64}
"""Bytes of a number -> a whole number of that size."""
