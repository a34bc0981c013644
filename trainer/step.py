"""One optimiser step: augment, forward, loss with memory, backward, optimiser, teacher.

Shapes: B rows of the batch, N rows of the pack, C outputs; H and W the pack's size, h and w the model's.
"""

from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils import clip_grad_norm_

from manifests.errors import ConfigError
from pipeline.augment import augment_params
from pipeline.loaders import LoadedStep
from pipeline.prepare import prepare_images
from trainer.config import TrainConfig
from trainer.data import TrainingData
from trainer.losses import LossParts, bce_loss
from trainer.mixup import mixup_draw
from trainer.nvum import log_prior, nvum_step
from trainer.optim import set_learning_rate
from trainer.precision import autocast, resolve_precision
from trainer.schedule import learning_rate
from trainer.state import TrainState


class TrainStep:
    """Takes a batch and moves the state; on a GPU it never waits for the device, unless `step.on_nonfinite=skip`."""

    def __init__(self, config: TrainConfig, data: TrainingData, state: TrainState, *, steps_per_epoch: int) -> None:
        self.config = config
        self.state = state
        self.device = device = torch.device(config.run.device)
        self.steps_per_epoch = steps_per_epoch
        self.precision = resolve_precision(config.step.precision, device)
        self._targets_NC = torch.from_numpy(data.train.targets_NC).to(device)
        self._mask_NC = torch.from_numpy(data.train.mask_NC).to(device)
        self._log_prior_C = log_prior(torch.from_numpy(data.prior_C)).float().to(device)

    @property
    def next_lr(self) -> float:
        """The learning rate of the next step."""
        config, step = self.config, self.state.cursor.step
        total = config.run.epochs * self.steps_per_epoch
        return learning_rate(step, total, self.steps_per_epoch, config.schedule, config.optim.lr)

    def __call__(self, loaded: LoadedStep, sample_index_B: npt.NDArray[np.int64]) -> LossParts | None:
        """Do one step and move the cursor over it.

        Args:
            loaded: images and indices on the device.
            sample_index_B: int64 [B], what the order says of the same samples, on the host: augmentation is drawn from
                it, so that nothing is asked back from a GPU.

        Returns:
            The loss and its parts; None where the step was skipped, because the loss was not finite or this process has
            no sample in it.

        Raises:
            ConfigError: the loss is not finite and `step.on_nonfinite=stop`; on a GPU, who reads the sums finds out.
        """
        set_learning_rate(self.state.optimiser, self.next_lr)
        parts = self._forward_backward(loaded, sample_index_B) if len(sample_index_B) else None
        self.state.cursor.step += 1
        self.state.cursor.consumed = loaded.consumed
        return parts

    def _forward_backward(self, loaded: LoadedStep, sample_index_B: npt.NDArray[np.int64]) -> LossParts | None:
        state, config = self.state, self.config
        params = augment_params(config.run.seed, state.cursor.epoch, sample_index_B, config.augment)
        images_B1hw = prepare_images(loaded.batch.images_B1HW, params, config.model.input_size_px)
        skips = config.step.on_nonfinite == "skip"
        statistics = [buffer.clone() for buffer in state.student.buffers()] if skips else []

        state.student.train()
        with self._autocast():
            logits_BC = state.student(images_B1hw)
        parts = self._loss(logits_BC, images_B1hw, loaded)

        # On a CPU the loss is at hand; on a GPU only who chose `skip` pays for asking.
        if (skips or self.device.type == "cpu") and not bool(torch.isfinite(parts.loss)):
            if not skips:
                raise nonfinite_loss(epoch=state.cursor.epoch, step=state.cursor.step)
            for buffer, before in zip(state.student.buffers(), statistics, strict=True):
                buffer.copy_(before)
            return None
        self._update(parts.loss)
        return parts

    def _loss(self, logits_BC: torch.Tensor, images_B1hw: torch.Tensor, loaded: LoadedStep) -> LossParts:
        state, config = self.state, self.config
        index_B = loaded.batch.sample_index_B
        row_B = index_B.clamp(min=0)  # a row that does not count (-1) has no targets; the loss leaves it out
        targets_BC, mask_BC = self._targets_NC[row_B], self._mask_NC[row_B]
        if state.memory is None:
            return bce_loss(logits_BC, targets_BC, mask_BC, index_B, num_global=loaded.num_global)
        teacher_logits_BC = logits_BC.detach()
        if state.teacher is not None:
            with self._autocast():
                teacher_logits_BC = state.teacher.forward_train(images_B1hw)
        perm_B, lam = mixup_draw(config.run.seed, state.cursor.epoch, loaded.consumed, 0, len(index_B))
        return nvum_step(
            logits_BC,
            teacher_logits_BC,
            targets_BC,
            mask_BC,
            index_B,
            memory=state.memory,
            log_prior_C=self._log_prior_C,
            perm_B=torch.from_numpy(perm_B).to(self.device, non_blocking=True),
            lam=lam,
            config=config.loss,
            num_global=loaded.num_global,
        )

    def _update(self, loss: torch.Tensor) -> None:
        state = self.state
        state.optimiser.zero_grad(set_to_none=True)
        state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.config.step.clip_norm > 0:
            state.scaler.unscale_(state.optimiser)
            clip_grad_norm_(state.student.parameters(), self.config.step.clip_norm)
        state.scaler.step(state.optimiser)
        state.scaler.update()
        if state.teacher is not None:
            state.teacher.update(state.student)

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast(self.precision, self.device)


def nonfinite_loss(*, epoch: int, step: int) -> ConfigError:
    """Return the error that stops a run whose loss is not a finite number."""
    return ConfigError(
        f"epoch {epoch}, step {step}: the loss is not a finite number, so the run stops; its checkpoints are from "
        "before. Lower optim.lr, set step.clip_norm=1, use step.precision=fp32, or go on over such steps with "
        "--set step.on_nonfinite=skip"
    )
