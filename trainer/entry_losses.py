"""Losses beside cross-entropy that look at one entry (an image's logit for one finding) at a time.

With p = sigmoid(z), each is `y * positive(z) + (1 - y) * negative(z)` for a label y in [0, 1], so that smoothed and
mixed labels mean the same for all. They are computed from logits, through logsigmoid, and are finite for every finite
z.

================  ===================================  ====================================  ==========================
loss.name         positive                             negative                              source
================  ===================================  ====================================  ==========================
bce               -log p                               -log(1 - p)
label_smoothing   bce with (1 - s) y + s / 2 for y                                           Szegedy et al., CVPR 2016
focal             -a (1 - p)^g log p                   -(1 - a) p^g log(1 - p)               Lin et al., ICCV 2017
asl               -(1 - p)^g+ log p                    -q^g- log(1 - q), q = max(p - m, 0)   Ridnik et al., ICCV 2021
gce               (1 - p^q) / q                        (1 - (1 - p)^q) / q                   Zhang et al., NeurIPS 2018
logit_adjustment  bce of z + t log(prior / (1 - prior))                                      Menon et al., ICLR 2021
================  ===================================  ====================================  ==========================

The last two are written for one label out of many; here each finding is their case of two classes: p and 1 - p.

Shapes in names: B rows of this rank's batch, C outputs.
"""

from dataclasses import dataclass
from math import isfinite

import torch
from torch.nn.functional import logsigmoid

from trainer.losses import bce_entries
from trainer.options import refuse_unless


@dataclass(frozen=True, kw_only=True)
class EntryLossConfig:
    """What these losses can be told; the defaults are those of their sources (of asl: of the authors' code)."""

    smoothing: float = 0.1
    """Of label_smoothing: how much of a label is spread evenly over present and absent; in [0, 1)."""

    focal_gamma: float = 2.0
    """Of focal: how strongly easy entries are turned down; 0: not at all."""

    focal_alpha: float | None = None
    """Of focal: weight of positives, that of negatives is 1 less it; none: both weigh 1."""

    asl_gamma_positive: float = 1.0
    """Of asl: focusing of positives."""

    asl_gamma_negative: float = 4.0
    """Of asl: focusing of negatives."""

    asl_margin: float = 0.05
    """Of asl: taken off the probability of negatives; those below it carry no loss. In [0, 1)."""

    gce_q: float = 0.7
    """Of gce: towards 0 it is cross-entropy, 1 is the mean absolute error; in (0, 1]."""

    adjustment: float = 1.0
    """Of logit_adjustment: how much of the log odds of the class prior is added in training (tau)."""

    def __post_init__(self) -> None:
        for name, value in (
            ("focal_gamma", self.focal_gamma),
            ("asl_gamma_positive", self.asl_gamma_positive),
            ("asl_gamma_negative", self.asl_gamma_negative),
            ("adjustment", self.adjustment),
        ):
            refuse_unless(isfinite(value) and value >= 0, f"loss.{name}", value, "0 or more")
        refuse_unless(0 <= self.smoothing < 1, "loss.smoothing", self.smoothing, "at least 0, below 1")
        alpha = self.focal_alpha
        refuse_unless(alpha is None or 0 <= alpha <= 1, "loss.focal_alpha", alpha, "none, or a number from 0 to 1")
        refuse_unless(0 <= self.asl_margin < 1, "loss.asl_margin", self.asl_margin, "at least 0, below 1")
        refuse_unless(0 < self.gce_q <= 1, "loss.gce_q", self.gce_q, "above 0, at most 1")


def smoothed_entries(logits_BC: torch.Tensor, targets_BC: torch.Tensor, config: EntryLossConfig) -> torch.Tensor:
    """Return cross-entropy with smoothed labels (Szegedy et al., "Rethinking the Inception Architecture")."""
    return bce_entries(logits_BC, (1 - config.smoothing) * targets_BC + config.smoothing / 2)


def focal_entries(logits_BC: torch.Tensor, targets_BC: torch.Tensor, config: EntryLossConfig) -> torch.Tensor:
    """Return the focal loss (Lin et al., "Focal Loss for Dense Object Detection"; with an alpha its balanced form)."""
    log_p_BC, log_not_p_BC = logsigmoid(logits_BC), logsigmoid(-logits_BC)
    positive_BC = -torch.exp(config.focal_gamma * log_not_p_BC) * log_p_BC
    negative_BC = -torch.exp(config.focal_gamma * log_p_BC) * log_not_p_BC
    if config.focal_alpha is not None:
        positive_BC, negative_BC = config.focal_alpha * positive_BC, (1 - config.focal_alpha) * negative_BC
    return targets_BC * positive_BC + (1 - targets_BC) * negative_BC


def asymmetric_entries(logits_BC: torch.Tensor, targets_BC: torch.Tensor, config: EntryLossConfig) -> torch.Tensor:
    """Return the asymmetric loss (Ridnik et al., "Asymmetric Loss For Multi-Label Classification").

    The gradient goes through the focusing weights too, as in the equations.
    """
    log_p_BC, log_not_p_BC = logsigmoid(logits_BC), logsigmoid(-logits_BC)
    positive_BC = -torch.exp(config.asl_gamma_positive * log_not_p_BC) * log_p_BC
    gamma, margin = config.asl_gamma_negative, config.asl_margin
    if margin == 0:
        negative_BC = -torch.exp(gamma * log_p_BC) * log_not_p_BC
    else:
        probs_BC = torch.sigmoid(logits_BC)
        # The value that stands in below the margin keeps an infinite slope of the power out of the backward pass.
        above_BC = probs_BC > margin
        shifted_BC = torch.where(above_BC, probs_BC - margin, torch.full_like(probs_BC, 0.5))
        # 1 - (p - m) from 1 - p, which is exact where p is next to 1.
        loss_BC = -(shifted_BC**gamma) * torch.log(torch.sigmoid(-logits_BC) + margin)
        negative_BC = torch.where(above_BC, loss_BC, loss_BC.new_zeros(()))
    return targets_BC * positive_BC + (1 - targets_BC) * negative_BC


def generalised_entries(logits_BC: torch.Tensor, targets_BC: torch.Tensor, config: EntryLossConfig) -> torch.Tensor:
    """Return generalised cross-entropy (Zhang and Sabuncu, "Generalized Cross Entropy Loss"), not truncated."""
    q = config.gce_q
    positive_BC = -torch.expm1(q * logsigmoid(logits_BC)) / q
    negative_BC = -torch.expm1(q * logsigmoid(-logits_BC)) / q
    return targets_BC * positive_BC + (1 - targets_BC) * negative_BC


def adjusted_entries(
    logits_BC: torch.Tensor, targets_BC: torch.Tensor, config: EntryLossConfig, log_odds_C: torch.Tensor
) -> torch.Tensor:
    """Return cross-entropy of adjusted logits (Menon et al., "Long-tail learning via logit adjustment").

    Each finding is a softmax over present and absent, whose logits get tau log(prior) and tau log(1 - prior): together
    tau times the log odds. In evaluation the logits stay as they are, so that a rare finding is not put at a
    disadvantage for being rare.
    """
    return bce_entries(logits_BC + config.adjustment * log_odds_C.to(logits_BC), targets_BC)
