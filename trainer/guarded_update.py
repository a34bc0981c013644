"""The optimiser's and the teacher's step, unless loss or gradient is not finite."""

import torch

from manifests.errors import ConfigError
from trainer.config import StepConfig
from trainer.distributed import Ranks
from trainer.losses import LossParts
from trainer.optim import clip_gradients_, is_fused, step_unless
from trainer.state import TrainState


class GuardedUpdate:
    """Moves weights, scaler and teacher by the gradients that are there; the same on every rank.

    What is not finite moves no weight. The host looks at it where the loss is at hand (on a CPU); elsewhere the device
    decides, and nobody waits. fp16's scaler makes gradients overflow on purpose, to find its scale: that stops no run.
    """

    def __init__(
        self, config: StepConfig, state: TrainState, ranks: Ranks, *, device: torch.device, host_looks: bool | None
    ) -> None:
        """Collect what is guarded.

        Args:
            config: clipping, and what happens to a step that is not finite.
            state: what moves.
            ranks: the processes of the run.
            device: where the state lies.
            host_looks: whether the host asks after each step if all is finite; by default where it costs nothing, or
                where the optimiser is not fused and so cannot be told by the device.
        """
        self._clip_norm = config.clip_norm
        self._skips = config.on_nonfinite == "skip"
        self._state = state
        self._ranks = ranks
        self._host_looks = (device.type == "cpu" or not is_fused(state.optimiser)) if host_looks is None else host_looks
        # Collected once: a walk over the modules of a DenseNet takes a millisecond.
        self._weights, self._buffers = list(state.student.parameters()), list(state.student.buffers())
        self._statistics: list[torch.Tensor] = []

    def remember(self) -> None:
        """Note the running statistics before the forward pass moves them, where a step may be left out."""
        if self._skips:
            self._statistics = [buffer.clone() for buffer in self._buffers]

    def __call__(self, parts: LossParts) -> LossParts:
        """Take the step, or leave it out; return the loss, with `applied` where steps may be left out.

        Raises:
            ConfigError: not finite, and `step.on_nonfinite=stop`; where the device decides, the loss is NaN instead.
        """
        self._state.scaler.unscale_(self._state.optimiser)
        finite = clip_gradients_(self._weights, self._clip_norm).isfinite()
        return self._as_the_host_sees(parts, finite) if self._host_looks else self._as_the_device_decides(parts, finite)

    def _as_the_host_sees(self, parts: LossParts, finite: torch.Tensor) -> LossParts:
        state, scaled = self._state, self._state.scaler.is_enabled()
        if bool(finite):
            state.scaler.step(state.optimiser)
            state.scaler.update()
            if state.teacher is not None:
                state.teacher.update(state.student)
            return parts
        if not self._skips and not (scaled and self._loss_is_finite(parts)):
            raise self._ranks.shared(nonfinite_loss(epoch=state.cursor.epoch, step=state.cursor.step))
        if scaled:
            state.scaler.step(state.optimiser)  # does nothing but take note
            state.scaler.update()
        if not self._skips:
            return parts
        for buffer, before in zip(self._buffers, self._statistics, strict=True):
            buffer.copy_(before)
        return parts._replace(applied=finite)

    def _as_the_device_decides(self, parts: LossParts, finite: torch.Tensor) -> LossParts:
        state, scaled = self._state, self._state.scaler.is_enabled()
        if scaled:
            state.scaler.step(state.optimiser)
            state.scaler.update()
        else:
            step_unless(state.optimiser, ~finite)
        if self._skips:
            for buffer, before in zip(self._buffers, self._statistics, strict=True):
                torch.where(finite, buffer, before, out=buffer)
        if state.teacher is not None:
            state.teacher.update(state.student, applied=finite if self._skips else None)
        if self._skips:
            return parts._replace(applied=finite)
        return parts if scaled else parts._replace(loss=torch.where(finite, parts.loss, float("nan")))

    def _loss_is_finite(self, parts: LossParts) -> bool:
        """Tell whether the loss is finite on every rank; waits for the device."""
        return bool(self._ranks.all_true(parts.loss.isfinite()))


def nonfinite_loss(*, epoch: int, step: int) -> ConfigError:
    """Return the error that stops a run whose loss is not a finite number."""
    return ConfigError(
        f"epoch {epoch}, step {step}: the loss or its gradient is not a finite number, so the run stops; its "
        "checkpoints are from before. Lower optim.lr, set step.clip_norm=1, use step.precision=fp32, or go on over "
        "such steps with --set step.on_nonfinite=skip"
    )
