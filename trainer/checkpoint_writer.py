"""What a run's checkpoints hold beside the state, and when the clock asks for the next one."""

from time import monotonic

import torch

from trainer.checkpoint import Checkpoint, Identities, identities_as_values, write_checkpoint
from trainer.config import TrainConfig
from trainer.distributed import Ranks
from trainer.events import EventLog
from trainer.nvum import cpu_implementation
from trainer.run_folder import RunFolder
from trainer.sections import as_values
from trainer.state import TrainState


class CheckpointWriter:
    """Writes the state of a run; every rank calls it, and rank 0 writes."""

    def __init__(
        self,
        *,
        config: TrainConfig,
        state: TrainState,
        run: RunFolder,
        log: EventLog,
        identities: Identities,
        ranks: Ranks,
    ) -> None:
        self.config = config
        self.state = state
        self.run = run
        self.log = log
        self.identities = identities
        self.ranks = ranks
        self._written_s = monotonic()

    @property
    def is_due(self) -> bool:
        """Tell whether the last one is `run.checkpoint_every_minutes` old, by this process's clock."""
        every_minutes = self.config.run.checkpoint_every_minutes
        return 0 < every_minutes <= (monotonic() - self._written_s) / 60

    def write(self) -> None:
        """Write what the run needs to go on, with the length of its history, which is on the disk before."""
        content = self._identified(self.state.checkpoint(self.ranks)) | {"events_num_bytes": self.log.sync()}
        if self.ranks.is_first:
            self.run.checkpoints.write(self.state.cursor.step, content)
        self._written_s = monotonic()

    def write_best(self) -> None:
        """Write what evaluation needs."""
        content = self._identified(self.state.weights(self.ranks))
        if self.ranks.is_first:
            write_checkpoint(self.run.checkpoints.best, content)

    def _identified(self, content: Checkpoint) -> Checkpoint:
        return content | {
            "identities": identities_as_values(self.identities),
            "config": as_values(self.config),
            "num_threads": torch.get_num_threads(),
            "world_size": self.ranks.world_size,
            "cpu_nvum_step": cpu_implementation(),
        }
