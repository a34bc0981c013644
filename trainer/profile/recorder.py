"""Which part of a step takes how long: a step with a stopwatch around its parts, which training itself never has.

At any moment one part is under way, so that the spans of a step have no gaps. On a CPU a mark is the time and the core
seconds of the process. On a GPU it is an event in the stream: nothing waits for it, and a batch that comes too late
shows as a gap on the device, one that the host merely waited for does not.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from pipeline.loaders import LoadedStep
from trainer.losses import LossParts
from trainer.profile.measurements import PartName, Span, StepTimes
from trainer.step import TrainStep


class Moment(NamedTuple):
    """When a mark was made."""

    wall_s: float
    core_s: float


class Clock(Protocol):
    """Makes marks, and says afterwards when they were."""

    def mark(self) -> Any:
        """Return a mark of now."""

    def moments(self, marks: list[Any]) -> list[Moment]:
        """Return when they were made, in seconds since any moment."""


class HostClock:
    """Time and core seconds of this process."""

    def mark(self) -> Moment:
        """Return now."""
        return Moment(time.perf_counter(), time.process_time())

    def moments(self, marks: list[Moment]) -> list[Moment]:
        """Return the marks, which are moments."""
        return marks


class DeviceClock:
    """Events in the stream of a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def mark(self) -> torch.cuda.Event:
        """Return an event that happens when the stream comes to it."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def moments(self, marks: list[torch.cuda.Event]) -> list[Moment]:
        """Wait for the device; return when each event happened, since the first."""
        torch.cuda.synchronize(self._device)
        return [Moment(marks[0].elapsed_time(mark) / 1000, 0.0) for mark in marks]


class Recorder:
    """Notes when which part of a step begins."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._part: PartName = "other"
        self._marks: list[Any] = []
        self._parts: list[PartName] = []
        self._steps: list[tuple[int, int, bool]] = []

    def switch(self, part: PartName) -> PartName:
        """Begin a part; return the one that ends."""
        ended, self._part = self._part, part
        self._marks.append(self._clock.mark())
        self._parts.append(part)
        return ended

    @contextmanager
    def part(self, part: PartName) -> Iterator[None]:
        """Give the time within to `part`, and what comes after to the part from before."""
        before = self.switch(part)
        try:
            yield
        finally:
            self.switch(before)

    def end_step(self, *, num_images: int, is_first: bool) -> None:
        """Note that all since the last call was one step."""
        self._steps.append((len(self._marks), num_images, is_first))

    def forget(self) -> None:
        """Begin anew: what was noted warmed up."""
        self._marks, self._parts, self._steps = [], [], []

    def read(self) -> tuple[StepTimes, ...]:
        """Return the steps; the last part of the last one ends now."""
        self.switch("other")
        moments = self._clock.moments(self._marks)
        begin_s = moments[0].wall_s
        steps, first = [], 0
        for end, num_images, is_first in self._steps:
            spans = tuple(
                Span(
                    part=self._parts[number],
                    begin_s=moments[number].wall_s - begin_s,
                    end_s=moments[number + 1].wall_s - begin_s,
                    core_s=moments[number + 1].core_s - moments[number].core_s,
                )
                for number in range(first, end)
            )
            steps.append(StepTimes(num_images=num_images, spans=spans, is_first=is_first))
            first = end
        return tuple(steps)


class MeasuredStep(TrainStep):
    """A training step whose parts are recorded.

    Of several ranks the time from the last gradient to the end of the backward pass is `all-reduce`: the sums over
    ranks that did not hide behind it, and the wait for ranks that are slower.
    """

    recorder: Recorder
    """Set before the first step."""

    _knows_last_gradient = False

    def _prepared(
        self, loaded: LoadedStep, sample_index_B: npt.NDArray[np.int64]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        with self.recorder.part("augment"):
            return super()._prepared(loaded, sample_index_B)

    def _student_logits(self, images_b1hw: torch.Tensor) -> torch.Tensor:
        with self.recorder.part("forward"):
            return super()._student_logits(images_b1hw)

    def _teacher_logits(self, images_b1hw: torch.Tensor) -> torch.Tensor:
        with self.recorder.part("teacher"):
            return super()._teacher_logits(images_b1hw)

    def _loss(self, *arguments: Any) -> LossParts:
        with self.recorder.part("loss + memory"):
            return super()._loss(*arguments)

    def _backward(self, loss: torch.Tensor) -> None:
        with self.recorder.part("backward"):
            super()._backward(loss)

    def _updated(self, parts: LossParts) -> LossParts:
        with self.recorder.part("optimiser + EMA"):
            return super()._updated(parts)

    def find_last_gradient(self, do_step: Callable[[], None]) -> None:
        """Do a step and, of several ranks, let the weight whose gradient came last begin `all-reduce` from now on."""
        came_last: list[torch.nn.Parameter] = []
        weights = [weight for weight in self.state.student.parameters() if weight.requires_grad]
        hooks = [
            weight.register_post_accumulate_grad_hook(came_last.append)  # type: ignore[no-untyped-call]
            for weight in weights
        ]
        do_step()
        for hook in hooks:
            hook.remove()
        if came_last and not self.ranks.is_alone and not self._knows_last_gradient:
            came_last[-1].register_post_accumulate_grad_hook(self._begin_reduce)  # type: ignore[no-untyped-call]
            self._knows_last_gradient = True

    def _begin_reduce(self, _: torch.Tensor) -> None:
        self.recorder.switch("all-reduce")
