"""The memory of a method: what it remembers of each sample, one row for each row of the pack.

NVUM keeps a running average of prior-adjusted logits there, ELR one of probabilities. Double-buffered by epoch: a step
reads ``previous`` and writes ``current``. So a mixup partner that was visited earlier in the epoch is still read as it
was before the epoch, a step that runs twice (re-computation, a retried batch) writes the same values, and replicas on
several ranks can be merged because nobody writes a row that another reads.

            epoch 0                     end_epoch()                        epoch 1
    previous  0 0 0 0 0 0   current -> previous, where touched     previous  a b 0 d e 0
    current   a b . d e .   (untouched rows keep their value)      current   . . . . . .

Shapes in names: N rows of the pack, C outputs, B rows of a batch.
"""

from collections.abc import Mapping

import torch

from manifests.errors import ConfigError


class NVUMMemory:
    """Rows of float32 values, zero at the start, by `sample_index`.

    An object of its own, never a buffer of a module: DDP would broadcast rank 0's buffers over the other ranks'. Each
    buffer holds one spare row after the N of the pack. Rows that must not be written write zeros there, so that a step
    needs no selection whose shape depends on the data (on a GPU that would wait for the device).
    """

    def __init__(
        self,
        num_rows: int,
        num_outputs: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.num_rows = num_rows
        self.num_outputs = num_outputs
        self._previous = torch.zeros(num_rows + 1, num_outputs, dtype=dtype, device=device)
        self._current = torch.zeros_like(self._previous)
        self._touched = torch.zeros(num_rows + 1, dtype=torch.bool, device=device)
        self.arrivals = torch.zeros(1, dtype=torch.int32, device=device)
        """Scratch of kernels that use these rows: programs that have finished; 0 between two launches."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the rows."""
        return self._previous.dtype

    @property
    def previous_NC(self) -> torch.Tensor:
        """The rows as they were when the epoch began; a view."""
        return self._previous[: self.num_rows]

    @property
    def current_NC(self) -> torch.Tensor:
        """The rows that this epoch writes, meaningful where touched; a view."""
        return self._current[: self.num_rows]

    @property
    def touched_N(self) -> torch.Tensor:
        """bool: rows that this epoch has written; a view."""
        return self._touched[: self.num_rows]

    @property
    def is_cpu(self) -> bool:
        """Whether the rows lie in the host's memory."""
        return self._previous.is_cpu

    @property
    def addresses(self) -> tuple[int, int, int]:
        """Where previous rows, current rows and marks lie, for compiled loops; until the epoch's end."""
        return self._previous.data_ptr(), self._current.data_ptr(), self._touched.data_ptr()

    @property
    def num_touched(self) -> int:
        """Number of rows that this epoch has written; waits for the device.

        At an epoch's end, over all ranks: touched + skipped + non-finite = selected.
        """
        return int(self.touched_N.sum())

    def read(self, index_B: torch.Tensor) -> torch.Tensor:
        """Return [B, C]: the previous rows of the samples; zeros for index -1."""
        return self._previous.index_select(0, self._slot(index_B, index_B >= 0))

    def write(self, index_B: torch.Tensor, rows_BC: torch.Tensor, written_B: torch.Tensor | None = None) -> None:
        """Write the rows where `written_B` holds (None: all, no index is -1); an index occurs at most once there."""
        rows_BC = rows_BC.to(self.dtype)
        if written_B is None:
            slot_B = index_B
        else:
            slot_B = self._slot(index_B, written_B)
            rows_BC = torch.where(written_B.unsqueeze(1), rows_BC, rows_BC.new_zeros(()))
        self._current.index_copy_(0, slot_B, rows_BC)
        self._touched.index_fill_(0, slot_B, True)

    def end_epoch(self) -> None:
        """Make what this epoch wrote the rows that the next one reads; untouched rows stay bit for bit."""
        torch.where(self._touched.unsqueeze(1), self._current, self._previous, out=self._current)
        self._previous, self._current = self._current, self._previous
        self._touched.zero_()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return a snapshot, in the middle of an epoch too: previous and current rows and the touched mask."""
        return {
            "previous_NC": self.previous_NC.clone(),
            "current_NC": self.current_NC.clone(),
            "touched_N": self.touched_N.clone(),
        }

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from a snapshot.

        Raises:
            ConfigError: the snapshot is of another number of rows or outputs, or not one of a memory at all.
        """
        own = {"previous_NC": self.previous_NC, "current_NC": self.current_NC, "touched_N": self.touched_N}
        if set(state) != set(own):
            raise ConfigError(f"memory in the checkpoint: found {sorted(state)}, expected {sorted(own)}")
        found = tuple(state["previous_NC"].shape)
        if any(state[name].shape != tensor.shape for name, tensor in own.items()):
            raise ConfigError(
                f"memory in the checkpoint: {' x '.join(map(str, found))} (rows of the pack x outputs), but this run "
                f"has {self.num_rows} x {self.num_outputs}; resume with the pack and the label space that it began with"
            )
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def _slot(self, index_B: torch.Tensor, chosen_B: torch.Tensor) -> torch.Tensor:
        """Return int64 [B]: the row of a chosen sample, the spare row for the others."""
        return torch.where(chosen_B, index_B, index_B.new_full((), self.num_rows))
