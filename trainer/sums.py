"""Running sums of a loss, kept on the device: adding waits for nothing, reading waits once."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from trainer.losses import LossParts


class LossMeans(NamedTuple):
    """Means a sample since the last reset; NaN where there was none."""

    loss: float
    bce: float
    reg: float
    num_samples: int
    num_rows_nonfinite: int
    num_steps_skipped: int


class LossSums:
    """Sums of a loss and its parts over samples, in float64, so that a mean does not depend on how steps are cut."""

    def __init__(self, device: torch.device) -> None:
        self._sums_3 = torch.zeros(3, dtype=torch.float64, device=device)
        self._num_rows_nonfinite = torch.zeros((), dtype=torch.int64, device=device)
        self._num_samples = 0
        self._num_steps_skipped = 0

    def add(self, parts: LossParts | None, num_samples: int) -> None:
        """Add the loss of a step, which is a mean over `num_samples` samples; None counts as a skipped step."""
        if parts is None:
            self._num_steps_skipped += 1
            return
        means_3 = torch.stack([parts.loss.detach(), parts.bce, parts.reg])
        self._sums_3 += means_3.double() * num_samples
        self._num_rows_nonfinite += parts.num_rows_nonfinite
        self._num_samples += num_samples

    def read(self) -> LossMeans:
        """Return the means; waits for the device."""
        loss, bce, reg = (self._sums_3 / (self._num_samples or float("nan"))).tolist()
        return LossMeans(
            loss=loss,
            bce=bce,
            reg=reg,
            num_samples=self._num_samples,
            num_rows_nonfinite=int(self._num_rows_nonfinite),
            num_steps_skipped=self._num_steps_skipped,
        )

    def reset(self) -> None:
        """Begin again at nothing."""
        self._sums_3.zero_()
        self._num_rows_nonfinite.zero_()
        self._num_samples = 0
        self._num_steps_skipped = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the sums as they are."""
        return {
            "sums": self._sums_3.clone(),
            "num_rows_nonfinite": self._num_rows_nonfinite.clone(),
            "num_samples": self._num_samples,
            "num_steps_skipped": self._num_steps_skipped,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from sums that `state_dict` returned."""
        self._sums_3.copy_(state["sums"])
        self._num_rows_nonfinite.copy_(state["num_rows_nonfinite"])
        self._num_samples = state["num_samples"]
        self._num_steps_skipped = state["num_steps_skipped"]
