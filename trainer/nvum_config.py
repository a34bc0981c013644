"""Settings of NVUM, the log prior, and what one step is given."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal, NamedTuple

import torch

from manifests.label_spaces import PriorForm
from trainer.memory import NVUMMemory
from trainer.options import refuse_unless

Regulariser = Literal["elementwise", "inner_product"]

PRIOR_FLOOR = 1e-12
"""Added to a prior before its logarithm, as in the authors' code: a finding that never occurs stays finite."""


@dataclass(frozen=True, kw_only=True)
class NVUMConfig:
    """What the method can be told; the defaults are those of the authors' code."""

    regulariser: Regulariser = "elementwise"
    """`elementwise`: one value a finding (the authors' code); `inner_product`: one value a sample (the paper)."""

    reg_weight: float = 1.0
    """Weight of the regulariser (the paper's lambda); 0 leaves cross-entropy alone."""

    memory_decay: float = 0.9
    """Share of its old value that a memory row keeps at each visit (beta); in [0, 1)."""

    prior_temperature: float = 1.0
    """How much of the log prior is taken off the logits before they are remembered (tau); 0 switches it off."""

    prior_form: PriorForm = "authors"
    """`authors`: (1 - P(No Finding)) * P(finding); `plain`: P(finding)."""

    mixup: bool = True
    """Whether memory rows are mixed within the batch (memory only, never images)."""

    clamp: float = 1e-4
    """Probabilities in the regulariser lie in [clamp, 1 - clamp]."""

    def __post_init__(self) -> None:
        forms = ("elementwise", "inner_product")
        refuse_unless(self.regulariser in forms, "loss.regulariser", self.regulariser, " or ".join(forms))
        refuse_unless(
            isfinite(self.reg_weight) and self.reg_weight >= 0, "loss.reg_weight", self.reg_weight, "0 or more"
        )
        refuse_unless(0 <= self.memory_decay < 1, "loss.memory_decay", self.memory_decay, "at least 0, below 1")
        refuse_unless(
            isfinite(self.prior_temperature) and self.prior_temperature >= 0,
            "loss.prior_temperature",
            self.prior_temperature,
            "0 or more",
        )
        refuse_unless(self.prior_form in ("authors", "plain"), "loss.prior_form", self.prior_form, "authors or plain")
        refuse_unless(0 < self.clamp < 0.5, "loss.clamp", self.clamp, "above 0, below 0.5")


class NVUMInputs(NamedTuple):
    """What one step of the loss is given; see `trainer.nvum.nvum_step` for each."""

    logits_BC: torch.Tensor
    """The student's logits."""

    teacher_logits_BC: torch.Tensor
    """The logits to remember."""

    targets_BC: torch.Tensor
    """Labels in [0, 1]."""

    mask_BC: torch.Tensor
    """bool, or weights of the cross-entropy; 0: no label."""

    index_B: torch.Tensor
    """int64 rows of the memory; -1: does not count."""

    memory: NVUMMemory
    """Read in its previous rows, written in its current ones."""

    log_prior_C: torch.Tensor
    """See `log_prior`."""

    perm_B: torch.Tensor | None
    """int64: whose memory each row's mixes with; None: no mixup."""

    lam: float | torch.Tensor
    """Share of the row's own memory."""

    config: NVUMConfig
    """The method's settings."""

    num_global: int
    """Rows that count in this step over all ranks."""

    @property
    def entry_share(self) -> float:
        """What one entry weighs in a mean over all entries of the step."""
        return 1 / (max(self.num_global, 1) * self.logits_BC.shape[1])

    @property
    def term_share(self) -> float:
        """What one term of the regulariser weighs: an entry's, or a row's for the inner product."""
        return self.entry_share if self.config.regulariser == "elementwise" else 1 / max(self.num_global, 1)


def log_prior(prior_C: torch.Tensor) -> torch.Tensor:
    """Return log(prior + 1e-12): finite also for a finding that the training rows never show."""
    return torch.log(prior_C + PRIOR_FLOOR)
