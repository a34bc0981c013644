"""Relay memory: generations of weights learn from noisy labels; the last one learns from what they remembered.

A method of this project's own; how it came about, and what it is worth, is in NOISE_STUDY.md. The run's epochs are
divided evenly into `relay_generations`. Each begins with new weights; the memory stays.

All but the last. Their logit z means the *true* finding, p = sigmoid(z). A label is present with the probability

    n = s p + f (1 - p)

where s is the finding's sensitivity and f its rate of false positives, both assumed (below), and

    loss = -sum_bc mask_bc (y log n + (1 - y) log(1 - n)) / (n_global * C)

the label's likelihood (forward correction; Patrini et al., CVPR 2017). A label that the model is sure to be wrong costs
-log f at most, where cross-entropy costs ever more: it is not learned by heart as soon. Each sample's row keeps

    t  <- relay_decay * t + (1 - relay_decay) * z'       z': the EMA teacher's logits, in every epoch; t begins at 0
    u  <- mean over generations of t / (1 - relay_decay^k)      as each ends; k: its epochs

The last. It does not look at labels: what the generations before remembered is its target,

    loss  = sum_bc mask_bc bce(z, sigmoid(u)) / (n_global * C)

So u is what an ensemble of networks thought of the sample while they had not yet learned its labels by heart, and one
network that nobody has to choose an epoch of learns it. A row has 2 C columns: u, then t. A row that was never written
has no u, and learns from its labels as the generations before did.

What is assumed of the labels, of a finding with the share q of labels present (the training prior):

    ppv    v = q + (1 - q) * relay_ppv                   share of labels "present" that are right
    sensitivity s = q + (1 - q) * relay_sensitivity      share of what is present that is labelled so
    f = q (1 - v) / (1 - q v / s)

that is, how far both are above chance: labels drawn at random would have v = s = q. So s > f for every finding, common
ones too. With relay_ppv = relay_sensitivity = 1 the loss is cross-entropy.

Shapes in names: B rows of this rank's batch, C outputs, D = 2 C columns of the memory.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from trainer.losses import LossParts, counted_entries, counted_logits, cross_entropy_sum
from trainer.memory import NVUMMemory
from trainer.options import refuse_unless


@dataclass(frozen=True, kw_only=True)
class RelayConfig:
    """What the method can be told.

    By default ppv and sensitivity are about what noisy validation chose on the probe of NOISE_STUDY.md, where each is a
    half.
    """

    relay_generations: int = 4
    """Of relay: how often weights begin, the first time included; 1: the likelihood of labels alone, 2: one
    generation remembers what the other one learns."""

    relay_ppv: float = 0.3
    """Of relay: how far the labels "present" are taken to be right beyond chance; above 0, at most 1 (all right)."""

    relay_sensitivity: float = 0.3
    """Of relay: how far what is present is taken to be labelled so beyond chance; above 0, at most 1 (always)."""

    relay_decay: float = 0.5
    """Share of its old value that a row of relay keeps at each visit; in [0, 1)."""

    def __post_init__(self) -> None:
        generations, decay = self.relay_generations, self.relay_decay
        refuse_unless(generations >= 1, "loss.relay_generations", generations, "1 or more")
        for name in ("relay_ppv", "relay_sensitivity"):
            value = getattr(self, name)
            refuse_unless(0 < value <= 1, f"loss.{name}", value, "above 0, at most 1")
        refuse_unless(0 <= decay < 1, "loss.relay_decay", decay, "at least 0, below 1")


class Generation(NamedTuple):
    """Where in the relay an epoch is."""

    number: int
    """From 0."""

    length: int
    """Epochs of a generation, without those that the last one has more."""

    num_epochs: int
    """Epochs of this one."""

    begins: bool
    """Whether the epoch is the first of a later generation: weights are new, and what was remembered counts."""

    reads_memory: bool
    """Whether it is the last one of several, which learns from the memory."""

    @property
    def first_epoch(self) -> int:
        """Where it begins."""
        return self.number * self.length


def generation_of(epoch: int, num_epochs: int, config: RelayConfig) -> Generation:
    """Return where an epoch (from 0) of a run is; the last generation takes what the division leaves over."""
    count = min(config.relay_generations, num_epochs)
    length = num_epochs // count
    number = min(epoch // length, count - 1)
    is_last = number == count - 1
    return Generation(
        number,
        length,
        num_epochs=num_epochs - number * length if is_last else length,
        begins=number > 0 and epoch == number * length,
        reads_memory=number > 0 and is_last,
    )


class Rates(NamedTuple):
    """Logarithms of how labels come about, [C] each, with -inf for 0."""

    log_hit_C: torch.Tensor
    """Of the sensitivity."""

    log_miss_C: torch.Tensor
    """Of 1 - the sensitivity."""

    log_false_C: torch.Tensor
    """Of the rate of false positives."""

    log_quiet_C: torch.Tensor
    """Of 1 - that rate."""


def assumed_rates(log_odds_C: torch.Tensor, config: RelayConfig) -> Rates:
    """Return the rates of findings whose labels have these log odds of being present, in float64."""
    labelled_C = torch.sigmoid(log_odds_C.double())
    ppv_C = labelled_C + (1 - labelled_C) * config.relay_ppv
    sensitivity_C = labelled_C + (1 - labelled_C) * config.relay_sensitivity
    false_C = labelled_C * (1 - ppv_C) / (1 - labelled_C * ppv_C / sensitivity_C)
    return Rates(
        *(torch.log(rate_C.clamp(0, 1)) for rate_C in (sensitivity_C, 1 - sensitivity_C, false_C, 1 - false_C))
    )


def relay_step(
    logits_BC: torch.Tensor,
    teacher_logits_BC: torch.Tensor,
    targets_BC: torch.Tensor,
    mask_BC: torch.Tensor,
    index_B: torch.Tensor,
    *,
    memory: NVUMMemory,
    log_odds_C: torch.Tensor,
    generation: Generation,
    config: RelayConfig,
    num_global: int,
) -> LossParts:
    """Return the loss of a step, and write the batch's rows into the memory's current buffer.

    Args:
        logits_BC: student logits, any floating type; computed in float32 (float64 stays float64).
        teacher_logits_BC: what is remembered. A row with one that is not finite is not written and counted.
        targets_BC: labels in [0, 1].
        mask_BC: bool or 0/1; 0 marks an entry without a label: no loss, gradient exactly 0.
        index_B: int64 `sample_index`, the row of the memory; -1 marks a row that does not count.
        memory: 2 C columns; `previous` is read, `current` written, so that a step that runs twice writes the same.
        log_odds_C: logarithm of prior / (1 - prior) of the labels.
        generation: see `generation_of`.
        config: the method's settings.
        num_global: rows with index >= 0 of this step over all ranks; at least 1 is assumed.
    """
    with torch.autocast(logits_BC.device.type, enabled=False):
        counted_BC = counted_entries(mask_BC, index_B)
        safe_BC = counted_logits(logits_BC, counted_BC)
        labels_BC = targets_BC.to(safe_BC.dtype)
        loss_BC = label_entries(safe_BC, labels_BC, assumed_rates(log_odds_C, config))
        remembered_BC, written_B = _remembered(teacher_logits_BC, index_B, memory, generation, config)
        if generation.reads_memory:
            remembered_BC = remembered_BC.to(safe_BC.dtype)
            was_written_B1 = (remembered_BC != 0).any(dim=1, keepdim=True)
            relayed_BC = binary_cross_entropy_with_logits(safe_BC, torch.sigmoid(remembered_BC), reduction="none")
            loss_BC = torch.where(was_written_B1, relayed_BC, loss_BC)
        num_entries = max(num_global, 1) * logits_BC.shape[1]
        loss = torch.where(counted_BC, loss_BC, loss_BC.new_zeros(())).sum() / num_entries
        bce = cross_entropy_sum(safe_BC.detach(), targets_BC, counted_BC) / num_entries
        return LossParts(
            loss=loss,
            bce=bce,
            reg=torch.zeros_like(bce),
            num_rows_skipped=(index_B < 0).sum(),
            num_rows_nonfinite=((index_B >= 0) & ~written_B).sum(),
        )


def label_entries(logits_BC: torch.Tensor, labels_BC: torch.Tensor, rates: Rates) -> torch.Tensor:
    """Return minus the log likelihood of each label; cross-entropy where no label is taken to be wrong."""
    rates = Rates(*(rate_C.to(logits_BC) for rate_C in rates))
    log_p_BC, log_not_p_BC = logsigmoid(logits_BC), logsigmoid(-logits_BC)
    present_BC = torch.logaddexp(rates.log_hit_C + log_p_BC, rates.log_false_C + log_not_p_BC)
    absent_BC = torch.logaddexp(rates.log_miss_C + log_p_BC, rates.log_quiet_C + log_not_p_BC)
    return -(labels_BC * present_BC + (1 - labels_BC) * absent_BC)


@torch.no_grad()
def _remembered(
    teacher_logits_BC: torch.Tensor,
    index_B: torch.Tensor,
    memory: NVUMMemory,
    generation: Generation,
    config: RelayConfig,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Write the rows; return u [B, C], the mean logits of the generations before, and which rows are written."""
    mean_BC, running_BC = memory.read(index_B).chunk(2, dim=1)
    if generation.begins:
        ended_BC = running_BC / (1 - config.relay_decay**generation.length)
        mean_BC = mean_BC + (ended_BC - mean_BC) / generation.number
        running_BC = torch.zeros_like(running_BC)
    teacher_BC = teacher_logits_BC.to(memory.dtype)
    running_BC = config.relay_decay * running_BC + (1 - config.relay_decay) * teacher_BC
    written_B = (index_B >= 0) & teacher_BC.isfinite().all(dim=1)
    memory.write(index_B, torch.cat([mean_BC, running_BC], dim=1), written_B)
    return mean_BC, written_B
