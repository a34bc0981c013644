"""Running sums of a loss, kept on the device: adding waits for nothing, reading waits once.

Each rank sums its own share of the loss; samples and steps are counted over all ranks by each of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from trainer.distributed import Ranks
from trainer.losses import LossParts


class LossMeans(NamedTuple):
    """Means a sample since the last reset, over all ranks; NaN where there was none."""

    loss: float
    bce: float
    reg: float
    num_samples: int
    num_rows_skipped: int
    num_rows_nonfinite: int
    num_steps_skipped: int


class LossSums:
    """Sums of a loss and its parts over samples, in float64, so that a mean does not depend on how steps are cut."""

    def __init__(self, device: torch.device) -> None:
        self._sums_3 = torch.zeros(3, dtype=torch.float64, device=device)
        self._num_rows_2 = torch.zeros(2, dtype=torch.int64, device=device)  # skipped, not finite
        self._num_samples_and_skips_2 = torch.zeros(2, dtype=torch.int64, device=device)  # steps that were skipped

    def add(self, parts: LossParts, num_samples: int) -> None:
        """Add the loss of a step, a mean over `num_samples` samples; of one that was left out only rows count."""
        sums_3 = torch.stack([parts.loss.detach(), parts.bce, parts.reg]).double() * num_samples
        if parts.applied is None:
            self._num_samples_and_skips_2[0] += num_samples
        else:
            sums_3 = torch.where(parts.applied, sums_3, 0.0)  # what is not finite stays out
            self._num_samples_and_skips_2 += torch.stack([parts.applied * num_samples, ~parts.applied])
        self._sums_3 += sums_3
        self._num_rows_2 += torch.stack([parts.num_rows_skipped, parts.num_rows_nonfinite])

    def read(self, ranks: Ranks) -> LossMeans:
        """Return the means over all ranks, which all call this; waits for the device."""
        sums_5 = ranks.sum_(torch.cat([self._sums_3, self._num_rows_2.double()]))
        *sums, num_rows_skipped, num_rows_nonfinite = sums_5.tolist()
        num_samples, num_steps_skipped = self._num_samples_and_skips_2.tolist()
        loss, bce, reg = (value / (num_samples or float("nan")) for value in sums)
        return LossMeans(
            loss=loss,
            bce=bce,
            reg=reg,
            num_samples=num_samples,
            num_rows_skipped=int(num_rows_skipped),
            num_rows_nonfinite=int(num_rows_nonfinite),
            num_steps_skipped=num_steps_skipped,
        )

    def reset(self) -> None:
        """Begin again at nothing."""
        for sums in (self._sums_3, self._num_rows_2, self._num_samples_and_skips_2):
            sums.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Return this rank's sums as they are."""
        num_samples, num_steps_skipped = self._num_samples_and_skips_2.tolist()
        return {
            "sums": self._sums_3.clone(),
            "num_rows_skipped": self._num_rows_2[0].clone(),
            "num_rows_nonfinite": self._num_rows_2[1].clone(),
            "num_samples": num_samples,
            "num_steps_skipped": num_steps_skipped,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from sums that `state_dict` returned."""
        self.count_only(state)
        self._sums_3.copy_(state["sums"])
        self._num_rows_2[0] = state.get("num_rows_skipped", 0)  # checkpoints of version 0.1 have none
        self._num_rows_2[1] = state["num_rows_nonfinite"]

    def count_only(self, state: Mapping[str, Any]) -> None:
        """Go on from sums of which another rank takes the sums: with their samples and steps alone."""
        self.reset()
        self._num_samples_and_skips_2[0] = state["num_samples"]
        self._num_samples_and_skips_2[1] = state["num_steps_skipped"]


def merged_sums(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums of all ranks as one rank's, the others then having none."""
    return {
        name: sum(state[name] for state in states) if isinstance(value, torch.Tensor) else value
        for name, value in states[0].items()
    }
