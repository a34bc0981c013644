"""Epoch after epoch: steps, events, validation, checkpoints, until the end or a request to stop.

Every rank runs this loop over its share of each step; what is written is written by rank 0.
"""

from contextlib import closing
from functools import partial
from math import isfinite
from typing import Any

from pipeline.loaders import Loader
from pipeline.order import epoch_order
from pipeline.prepare import prepare_images
from trainer.checkpoint import Identities
from trainer.checkpoint_writer import CheckpointWriter
from trainer.config import TrainConfig
from trainer.data import TrainingData
from trainer.display import Display
from trainer.distributed import Ranks
from trainer.events import EventLog
from trainer.guarded_update import nonfinite_loss
from trainer.inference import infer
from trainer.memorisation import Answers, CleanSample, memorisation
from trainer.memory_merge import end_epoch_of_memory_
from trainer.precision import autocast
from trainer.remembered import Memory
from trainer.replicas import average_statistics_
from trainer.restart import begin_anew_
from trainer.run_folder import RunFolder
from trainer.signals import AGREE_EVERY_STEPS, StopRequest
from trainer.state import Best, TrainState
from trainer.step import TrainStep
from trainer.stopwatch import Pace, Stopwatch, with_waits
from trainer.sums import LossMeans
from trainer.validation import Validation, validate

DATA_WAIT_LIMIT = 0.1
"""Share of an epoch's time spent waiting for data from which the run says so, once."""


class Stopped(Exception):
    """A request to stop was noticed where the state can be written."""


class TrainingLoop:
    """Runs a state to its end; everything that it needs is open, and its owner closes it."""

    def __init__(
        self,
        *,
        config: TrainConfig,
        data: TrainingData,
        state: TrainState,
        run: RunFolder,
        log: EventLog,
        train_loader: Loader,
        valid_loader: Loader | None,
        clean: CleanSample | None = None,
        clean_loader: Loader | None = None,
        stop: StopRequest,
        display: Display,
        identities: Identities,
        ranks: Ranks,
    ) -> None:
        self.config = config
        self.data = data
        self.state = state
        self.log = log
        self.train_loader = train_loader
        self.valid_loader = valid_loader
        self.clean, self.clean_loader = clean, clean_loader
        self.stop = stop
        self.display = display
        self.ranks = ranks
        self._checkpoints = CheckpointWriter(
            config=config, state=state, run=run, log=log, identities=identities, ranks=ranks
        )
        self.step = TrainStep(config, data, state, ranks)
        self._run_watch, self._epoch_watch, self._window_watch = Stopwatch(), Stopwatch(), Stopwatch()
        self._elapsed_before_s = state.elapsed_s
        self._warned_of_waits = False
        self._num_rows_skipped = 0

    def run_to_end(self) -> bool:
        """Train until the last epoch is done; return False where a request to stop came first.

        Either way the newest checkpoint is the state as it is left.

        Raises:
            ConfigError: a loss that is not finite, or a checkpoint that cannot be written.
        """
        cursor = self.state.cursor
        if self.valid_loader is None:
            self.warn(
                "there are no validation rows: nothing chooses between the epochs, so the last one is kept as the best"
            )
        try:
            while cursor.epoch < self.config.run.epochs:
                pace = self._train_epoch()
                self._end_epoch(self._validate(), self._ask_about_wrong_labels(), pace)
        except Stopped:
            assert self.stop.signal is not None, "stopped without an agreement"
            self.log.write("stop", epoch=cursor.epoch, step=cursor.step, signal=self.stop.signal.name)
            self._write_checkpoint()
            return False
        best = self.state.best
        self.log.write(
            "end",
            epoch=cursor.epoch,
            step=cursor.step,
            best_epoch=best.epoch,
            best_valid_mean_auroc=best.valid_mean_auroc,
        )
        self.log.sync()
        return True

    def _train_epoch(self) -> Pace:
        """Do the steps that the epoch still has; return their pace."""
        cursor, config = self.state.cursor, self.config
        sample_index_n = self.data.train.sample_index_n
        order = epoch_order(
            len(sample_index_n),
            epoch=cursor.epoch,
            seed=config.run.seed,
            batch_size=config.loader.batch_size,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
            start=cursor.consumed,
        )
        self.display.start_epoch(cursor.epoch, self.train_loader.num_steps(cursor.consumed))
        self._epoch_watch.start()
        self._window_watch.start()
        with closing(with_waits(self.train_loader.train_batches(cursor.epoch, cursor.consumed))) as batches:
            for ordered, (loaded, waited_s) in zip(order, batches, strict=True):
                assert loaded.consumed == ordered.consumed, "the loader left the order"
                lr = self.step.next_lr
                parts = self.step(loaded, sample_index_n[ordered.positions_B])
                for sums in (self.state.epoch_sums, self.state.window_sums):
                    sums.add(parts, loaded.num_global)
                for watch in (self._epoch_watch, self._window_watch):
                    watch.add(num_images=loaded.num_global, waited_s=waited_s)
                if cursor.step % config.run.log_every_steps == 0:
                    self._log_window(lr)
                self.display.advance()
                self._heed_requests(is_last=cursor.consumed == len(sample_index_n))
        return self._epoch_watch.read()

    def _heed_requests(self, *, is_last: bool) -> None:
        """After a step: stop where that was asked for, else write a checkpoint where one is due within the epoch."""
        run, step = self.config.run, self.state.cursor.step
        is_due = run.checkpoint_every_steps > 0 and step % run.checkpoint_every_steps == 0
        if self.ranks.is_alone or step % AGREE_EVERY_STEPS == 0:
            is_due |= self.stop.agree(self.ranks, is_due=self._checkpoints.is_due)
            if self.stop.signal is not None:
                raise Stopped
        if is_due and not is_last:
            self._write_checkpoint()

    def _log_window(self, lr: float) -> None:
        """Write down the loss since the last `train` event and begin a new window."""
        cursor, pace = self.state.cursor, self._window_watch.read()
        means = self._finite(self.state.window_sums.read(self.ranks))
        self.log.write(
            "train",
            epoch=cursor.epoch,
            step=cursor.step,
            **means._asdict(),
            lr=lr,
            images_per_s=pace.images_per_s,
            data_wait_fraction=pace.data_wait_fraction,
            elapsed_s=self._elapsed_s(),
        )
        self.display.show(loss=means.loss, pace=pace)
        self.state.window_sums.reset()
        self._window_watch.start()

    def _validate(self) -> Validation:
        """Return what the evaluated module reaches on the validation rows; a request to stop ends it."""
        average_statistics_(self.state.modules, self.ranks)
        if self.valid_loader is None:
            return Validation(auroc=dict.fromkeys(self.data.space.findings))
        return validate(self.state.evaluated, self.valid_loader, self.data.valid, **self._inference())

    def _ask_about_wrong_labels(self) -> Answers | None:
        """Return what the evaluated module says of the images whose truth is known; None where there are none."""
        if self.clean is None or self.clean_loader is None:
            return None
        return Answers(*infer(self.state.evaluated, self.clean_loader, **self._inference()))

    def _inference(self) -> dict[str, Any]:
        """Return how the evaluated module is asked; a request to stop is heeded before and meanwhile."""
        self._heed_signals()
        self._num_validation_steps = 0
        return {
            "prepare": partial(prepare_images, params=None, out_size_px=self.config.model.input_size_px),
            "autocast": partial(autocast, self.step.precision, self.step.device),
            "on_step": self._on_validation_step,
            "ranks": self.ranks,
        }

    def _on_validation_step(self, num_done: int) -> None:
        self._num_validation_steps += 1
        if self.ranks.is_alone or self._num_validation_steps % AGREE_EVERY_STEPS == 0:
            self._heed_signals()

    def _heed_signals(self) -> None:
        self.stop.agree(self.ranks)
        if self.stop.signal is not None:
            raise Stopped

    def _end_epoch(self, validation: Validation, answers: Answers | None, pace: Pace) -> None:
        """Write the epoch down, choose the best, close the memory's epoch, write a checkpoint."""
        state, cursor = self.state, self.state.cursor
        means = self._finite(state.epoch_sums.read(self.ranks))
        best_so_far = state.best.valid_mean_auroc
        value = validation.mean_auroc
        # Without a value an epoch replaces the one before, unless one with a value is there.
        is_best = best_so_far is None if value is None else best_so_far is None or value > best_so_far
        if is_best:
            state.best = Best(epoch=cursor.epoch, valid_mean_auroc=value)
        fields = {"epoch": cursor.epoch, "step": cursor.step, **means._asdict()}
        self.log.write(
            "epoch",
            **fields,
            valid_mean_auroc=value,
            valid_auroc=validation.auroc,
            is_best=is_best,
            epoch_s=self._epoch_watch.read().elapsed_s,
            images_per_s=pace.images_per_s,
            data_wait_fraction=pace.data_wait_fraction,
        )
        self.display.end_epoch(cursor.epoch, loss=means.loss, valid_mean_auroc=value, is_best=is_best, pace=pace)
        self._warn_of_waits(pace.data_wait_fraction)
        self._warn_of_skipped(means.num_rows_skipped)

        if state.memory is not None:
            end_epoch_of_memory_(
                state.memory, means, num_selected=self.data.train.num_selected, epoch=cursor.epoch, ranks=self.ranks
            )
        if answers is not None and self.clean is not None and self.ranks.is_first:
            memory = self._memory(num_epochs=cursor.epoch + 1)
            self.log.write(
                "memorisation", epoch=cursor.epoch, step=cursor.step, **memorisation(self.clean, answers, memory)
            )
        state.epoch_sums.reset()
        cursor.epoch, cursor.consumed = cursor.epoch + 1, 0
        if is_best:
            self._checkpoints.write_best()
        self._begin_anew()
        self._write_checkpoint()

    def _memory(self, *, num_epochs: int) -> Memory | None:
        """Return the memory's rows between two epochs; None where the loss has none."""
        if self.state.memory is None:
            return None
        return Memory(self.state.memory.previous_NC.cpu(), self.data.prior_C, num_epochs, self.config)

    def _begin_anew(self) -> None:
        """Draw new weights before the next epoch, where the loss asks for them; the best epoch is then chosen anew."""
        generation_of, epoch, num_epochs = self.step.method.generation, self.state.cursor.epoch, self.config.run.epochs
        if generation_of is None or epoch == num_epochs:
            return
        if generation_of(epoch, num_epochs, self.config.loss).begins:
            begin_anew_(self.state, self.config, num_outputs=len(self.data.space.findings))
            self.state.best = Best()  # epochs of weights that are gone are no candidates
            self.log.write("restart", epoch=epoch, step=self.state.cursor.step)

    def _write_checkpoint(self) -> None:
        """Write the state as it is, after a look at the losses: one that is not finite never reaches the disk."""
        self._finite(self.state.epoch_sums.read(self.ranks))
        self.state.elapsed_s = self._elapsed_s()
        self._checkpoints.write()

    def _finite(self, means: LossMeans) -> LossMeans:
        if means.num_samples and not isfinite(means.loss):
            raise self.ranks.shared(nonfinite_loss(epoch=self.state.cursor.epoch, step=self.state.cursor.step))
        return means

    def _warn_of_waits(self, data_wait_fraction: float) -> None:
        if data_wait_fraction > DATA_WAIT_LIMIT and not self._warned_of_waits:
            self._warned_of_waits = True
            self.warn(
                f"training waited for data {data_wait_fraction:.0%} of the epoch; `{self.ranks.program} profile`, with "
                "the options of this run, says why and what would help"
            )

    def _warn_of_skipped(self, num_rows_skipped: int) -> None:
        if num_rows_skipped > self._num_rows_skipped:
            self._num_rows_skipped = num_rows_skipped
            self.warn(
                f"{num_rows_skipped:,} of {self.data.train.num_selected:,} images are damaged and were left "
                f"out of the epoch; `cxr-prep verify {self.data.pack.folder}` names them"
            )

    def warn(self, message: str) -> None:
        """Write a warning into the history and say it."""
        self.log.write("warning", message=message)
        self.display.warn(message)

    def _elapsed_s(self) -> float:
        return self._elapsed_before_s + self._run_watch.read().elapsed_s
