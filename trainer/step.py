"""One optimiser step: augment, forward, loss with memory, backward, optimiser, teacher.

Shapes: B rows of the batch, b of a part of it, N rows of the pack, C outputs; H and W the pack's size, h and w the
model's.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from manifests.selection import class_prior
from pipeline.augment import augment_params
from pipeline.loaders import LoadedStep
from pipeline.order import num_steps
from pipeline.prepare import prepare_images
from trainer.config import TrainConfig
from trainer.data import TrainingData
from trainer.distributed import ALONE, Ranks
from trainer.forward import runner
from trainer.guarded_update import GuardedUpdate
from trainer.image_mixing import mixed, mixing_draw
from trainer.losses import LossParts
from trainer.methods import METHODS, LossInputs
from trainer.mixup import mixup_draw
from trainer.nvum import log_prior
from trainer.optim import set_learning_rate
from trainer.precision import autocast, resolve_precision
from trainer.replicas import data_parallel
from trainer.schedule import learning_rate
from trainer.state import TrainState


class TrainStep:
    """Takes a batch and moves the state; on a GPU it never waits for the device, as long as the optimiser is fused.

    A step whose loss or gradient is not finite moves no weight: the host looks at it where the loss is at hand (on a
    CPU), elsewhere the device decides.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        state: TrainState,
        ranks: Ranks = ALONE,
        *,
        host_looks: bool | None = None,
    ) -> None:
        """Compile or capture the networks, where the configuration says so.

        Args:
            config: resolved.
            data: targets and prior.
            state: what every step moves.
            ranks: the processes of the run.
            host_looks: see `GuardedUpdate`.
        """
        self.config = config
        self.data = data
        self.state = state
        self.device = device = torch.device(config.run.device)
        self.ranks = ranks
        self._num_train = data.train.num_selected
        self.steps_per_epoch = self._num_steps_left(0)
        self.precision = resolve_precision(config.step.precision, device)
        self.method = METHODS[config.loss.name]
        self._targets_NC = torch.from_numpy(data.train.targets_NC).to(device)
        self._mask_NC = torch.from_numpy(data.train.mask_NC).to(device)
        self._log_prior_C = log_prior(torch.from_numpy(data.prior_C)).float().to(device)
        prior_C = class_prior(data.train, "plain")
        largest = 1 - 1 / (data.train.num_selected + 1)
        self._log_odds_C = torch.from_numpy(prior_C.clip(max=largest)).logit().float().to(device)

        if device.type == "cuda":
            torch.backends.cudnn.benchmark = config.step.cudnn_benchmark
        self._update = GuardedUpdate(config.step, state, ranks, device=device, host_looks=host_looks)
        self._student = data_parallel(self._runner(state.student), ranks, device)
        self._teacher = None if state.teacher is None else self._runner(state.teacher.module)

    def _runner(self, module: nn.Module) -> nn.Module:
        config, size_px = self.config, self.config.model.input_size_px
        num_images = next(part_sizes(config.loader.batch_size, config.step.accumulate))
        return runner(
            module,
            config.step,
            shape=(num_images, 1, size_px, size_px),
            device=self.device,
            precision=self.precision,
        )

    @property
    def next_lr(self) -> float:
        """The learning rate of the next step.

        Its place in the schedule follows from the samples that are done, so that a run which goes on with another
        number of processes is as far in its schedule as in its data. Each generation of weights has a whole schedule.
        """
        config, cursor, steps = self.config, self.state.cursor, self.steps_per_epoch
        first_epoch, num_epochs = 0, config.run.epochs
        if self.method.generation is not None:
            generation = self.method.generation(cursor.epoch, config.run.epochs, config.loss)
            first_epoch, num_epochs = generation.first_epoch, generation.num_epochs
        place = (cursor.epoch - first_epoch + 1) * steps - self._num_steps_left(cursor.consumed)
        return learning_rate(place, num_epochs * steps, steps, config.schedule, config.optim.lr)

    def _num_steps_left(self, consumed: int) -> int:
        """Return how many steps an epoch still has when `consumed` samples of it are done."""
        batch_size, world_size = self.config.loader.batch_size, self.ranks.world_size
        return num_steps(self._num_train, batch_size=batch_size, world_size=world_size, start=consumed)

    def __call__(self, loaded: LoadedStep, sample_index_B: npt.NDArray[np.int64]) -> LossParts:
        """Do one step and move the cursor over it.

        Args:
            loaded: images and indices on the device.
            sample_index_B: int64 [B], what the order says of the same samples, on the host: augmentation is drawn from
                it, so that nothing is asked back from a GPU.

        Returns:
            The loss and its parts, without a gradient; of this rank's share of the step.

        Raises:
            ConfigError: loss or gradient is not finite and `step.on_nonfinite=stop`; where the device decides, the
                loss is NaN then, and who reads the sums finds out.
        """
        state = self.state
        set_learning_rate(state.optimiser, self.next_lr)
        state.optimiser.zero_grad(set_to_none=True)
        self._update.remember()
        state.student.train()
        shared = self._forward_backward(loaded, sample_index_B) if len(sample_index_B) else self._without_samples()
        parts = self._updated(shared)
        state.cursor.step += 1
        state.cursor.consumed = loaded.consumed
        return parts

    def _forward_backward(self, loaded: LoadedStep, sample_index_B: npt.NDArray[np.int64]) -> LossParts:
        """Return the loss of the batch, whose gradient has been added to the weights' part by part."""
        tensors = self._prepared(loaded, sample_index_B)
        sizes = list(part_sizes(len(sample_index_B), self.config.step.accumulate))
        whole: LossParts | None = None
        for number, (images_b1hw, targets_bC, mask_bC, index_b) in enumerate(
            zip(*(torch.split(tensor, sizes) for tensor in tensors), strict=True)
        ):
            with self._gradients_stay_here() if number + 1 < len(sizes) else nullcontext():
                logits_bC = self._student_logits(images_b1hw)
                parts = self._loss(logits_bC, images_b1hw, targets_bC, mask_bC, index_b, loaded, number)
                self._backward(parts.loss)
            parts = parts._replace(loss=parts.loss.detach())
            whole = parts if whole is None else whole.plus(parts)
        assert whole is not None
        return whole

    def _prepared(
        self, loaded: LoadedStep, sample_index_B: npt.NDArray[np.int64]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the batch's images as the networks see them, its targets and mask [B, C], and its indices."""
        state, config = self.state, self.config
        params = augment_params(config.run.seed, state.cursor.epoch, sample_index_B, config.augment)
        images_B1hw = prepare_images(loaded.batch.images_B1HW, params, config.model.input_size_px)
        index_B = loaded.batch.sample_index_B
        row_B = index_B.clamp(min=0)  # a row that does not count (-1) has no targets; the loss leaves it out
        targets_BC, mask_BC = self._targets_NC[row_B], self._mask_NC[row_B]
        if config.augment.mixes_images:
            mixing = mixing_draw(
                config.augment,
                config.run.seed,
                state.cursor.epoch,
                loaded.consumed,
                self.ranks.rank,
                len(sample_index_B),
                size_px=config.model.input_size_px,
            )
            images_B1hw, targets_BC, mask_BC = mixed(images_B1hw, targets_BC, mask_BC, index_B, mixing)
        return images_B1hw, targets_BC, mask_BC, index_B

    def _student_logits(self, images_b1hw: torch.Tensor) -> torch.Tensor:
        with self._autocast():
            logits_bC: torch.Tensor = self._student(images_b1hw)
        return logits_bC

    def _teacher_logits(self, images_b1hw: torch.Tensor) -> torch.Tensor:
        assert self.state.teacher is not None
        with self._autocast():
            return self.state.teacher.forward_train(images_b1hw, run=self._teacher)

    def _without_samples(self) -> LossParts:
        """Take part in a step that has samples for other ranks only: with a gradient of zeros."""
        if self.config.step.sync_batchnorm:  # which waits for every rank's batch, an empty one too
            size_px = self.config.model.input_size_px
            images_B1hw = torch.zeros((0, 1, size_px, size_px), device=self.device)
            loss = self._student_logits(images_B1hw).sum()
            if self.state.teacher is not None and self.method.reads_teacher:
                self._teacher_logits(images_B1hw)
        else:
            loss = self._student(None)
        self._backward(loss)
        nothing, none = torch.zeros((), device=self.device), torch.zeros((), dtype=torch.int64, device=self.device)
        return LossParts(loss=nothing, bce=nothing, reg=nothing, num_rows_skipped=none, num_rows_nonfinite=none)

    def _loss(
        self,
        logits_bC: torch.Tensor,
        images_b1hw: torch.Tensor,
        targets_bC: torch.Tensor,
        mask_bC: torch.Tensor,
        index_b: torch.Tensor,
        loaded: LoadedStep,
        part: int,
    ) -> LossParts:
        state, config = self.state, self.config
        teacher_logits_bC, perm_b, lam = logits_bC.detach(), None, 1.0
        if self.method.reads_teacher:
            if state.teacher is not None:
                teacher_logits_bC = self._teacher_logits(images_b1hw)
            drawn_b, lam = mixup_draw(
                config.run.seed, state.cursor.epoch, loaded.consumed, self.ranks.rank, len(index_b), part=part
            )
            perm_b = torch.from_numpy(drawn_b).to(self.device, non_blocking=True)
        inputs = LossInputs(
            logits_BC=logits_bC,
            teacher_logits_BC=teacher_logits_bC,
            targets_BC=targets_bC,
            mask_BC=mask_bC,
            index_B=index_b,
            num_global=loaded.num_global,
            memory=state.memory,
            log_prior_C=self._log_prior_C,
            log_odds_C=self._log_odds_C,
            perm_B=perm_b,
            lam=lam,
            epoch=state.cursor.epoch,
            num_epochs=config.run.epochs,
        )
        return self.method.compute(inputs, config.loss)

    def _backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a loss; that of one which is not finite is NaN throughout, so that every rank sees it."""
        seed = torch.where(loss.isfinite(), 1.0, float("nan")).to(loss.dtype)
        if not self.ranks.is_alone:
            loss = loss * self.ranks.world_size  # losses of ranks add up, but gradients are averaged
        self.state.scaler.scale(loss).backward(gradient=seed)  # type: ignore[no-untyped-call]

    def _updated(self, parts: LossParts) -> LossParts:
        return self._update(parts)

    def _gradients_stay_here(self) -> AbstractContextManager[object]:
        """Return the context in which gradients are added up on this rank only."""
        context: AbstractContextManager[object] = getattr(self._student, "no_sync", nullcontext)()
        return context

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast(self.precision, self.device)


def part_sizes(batch_size: int, num_parts: int) -> Iterator[int]:
    """Yield the sizes of the parts that a batch is computed in, the largest first; none is empty."""
    num_parts = min(num_parts, batch_size)
    for part in range(num_parts):
        yield (batch_size - part - 1) // num_parts + 1
