"""The teacher: an exponential moving average of the student, whose logits NVUM remembers and which is evaluated."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.options import refuse_unless


@dataclass(frozen=True, kw_only=True)
class EMAConfig:
    """Whether there is a teacher, and how fast it follows."""

    enabled: Literal["auto", "on", "off"] = "auto"
    """`auto`: on for the losses nvum and relay, off for others. Off: these remember the student's own logits, and the
    student is evaluated."""

    decay: float = 0.99
    """Share of itself that the teacher keeps at each step; in [0, 1]."""

    def __post_init__(self) -> None:
        refuse_unless(self.enabled in ("auto", "on", "off"), "ema.enabled", self.enabled, "auto, on or off")
        refuse_unless(0 <= self.decay <= 1, "ema.decay", self.decay, "a number from 0 to 1")


class EMATeacher:
    """A copy of the student that follows it: teacher <- decay * teacher + (1 - decay) * student.

    Averages parameters and floating buffers (BatchNorm's running statistics); copies integer buffers. The copy takes
    no gradient. Pass the bare student, not one wrapped for several GPUs or compiled: names must agree.
    """

    def __init__(self, student: nn.Module, decay: float = 0.99) -> None:
        self.decay = decay
        self._followed: _Pairs | None = None
        self.module = copy.deepcopy(student).requires_grad_(False)
        # With these flags off BatchNorm normalises by the batch in train mode and leaves its running statistics alone
        # (they are the student's average, not the teacher's batches'), and uses them in eval mode as ever.
        for layer in self.module.modules():
            if isinstance(layer, _BatchNorm):
                layer.track_running_stats = False

    @torch.no_grad()
    def forward_train(
        self, images_B1HW: torch.Tensor, *, run: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Return logits [B, C] in train mode, so normalised by the batch's own statistics; changes nothing.

        Args:
            images_B1HW: normalised images.
            run: what to call in the module's place (compiled, say); None: the module.
        """
        self.module.train()
        logits_BC: torch.Tensor = (self.module if run is None else run)(images_B1HW)
        return logits_BC

    @torch.no_grad()
    def forward_eval(self, images_B1HW: torch.Tensor) -> torch.Tensor:
        """Return logits [B, C] in eval mode, normalised by the averaged running statistics."""
        self.module.eval()
        logits_BC: torch.Tensor = self.module(images_B1HW)
        return logits_BC

    @torch.no_grad()
    def update(self, student: nn.Module, *, applied: torch.Tensor | None = None) -> None:
        """Take one step towards the student, in a few launches for all tensors together.

        Args:
            student: what is followed; all of it finite.
            applied: bool scalar on its device; where it is False the teacher stays as it is. None: it moves.
        """
        pairs = self._followed
        if pairs is None or pairs.student is not student:
            pairs = self._followed = _Pairs.of(self.module, student)
        if applied is None:
            torch._foreach_lerp_(pairs.averaged, pairs.their_averaged, 1 - self.decay)
        else:  # the device knows the weight, and a lerp takes it from the host only
            moves = torch._foreach_sub(pairs.their_averaged, pairs.averaged)
            torch._foreach_mul_(moves, applied.to(moves[0].dtype) * (1 - self.decay))
            torch._foreach_add_(pairs.averaged, moves)
        if pairs.copied:
            torch._foreach_copy_(pairs.copied, pairs.their_copied)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the teacher's weights and running statistics, under the student's names."""
        return self.module.state_dict()

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from weights that `state_dict` returned."""
        self.module.load_state_dict(state)


class _Pairs(NamedTuple):
    """Tensors of a teacher and of the student that it follows, in one order; collecting them takes milliseconds."""

    student: nn.Module
    averaged: list[torch.Tensor]
    their_averaged: list[torch.Tensor]
    copied: list[torch.Tensor]
    their_copied: list[torch.Tensor]

    @classmethod
    def of(cls, teacher: nn.Module, student: nn.Module) -> "_Pairs":
        """Return parameters and floating buffers, which are averaged, and the other buffers, which are copied."""
        (averaged, copied), (their_averaged, their_copied) = _tensors(teacher), _tensors(student)
        return cls(student, averaged, their_averaged, copied, their_copied)


def _tensors(module: nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    averaged: list[torch.Tensor] = list(module.parameters())
    copied: list[torch.Tensor] = []
    for buffer in module.buffers():
        (averaged if buffer.is_floating_point() else copied).append(buffer)
    return averaged, copied
