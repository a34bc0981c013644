"""Losses by name: what each computes, what it needs, where it comes from.

Shapes in names: B rows of this rank's batch, C outputs, N rows of the pack.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from trainer.elr import ELRConfig, elr_step
from trainer.entry_losses import (
    EntryLossConfig,
    adjusted_entries,
    asymmetric_entries,
    focal_entries,
    generalised_entries,
    smoothed_entries,
)
from trainer.losses import LossParts, bce_loss, entry_loss
from trainer.memory import NVUMMemory
from trainer.nvum import NVUMConfig, nvum_step
from trainer.relay import Generation, RelayConfig, generation_of, relay_step

LossName = Literal["bce", "nvum", "label_smoothing", "focal", "asl", "gce", "logit_adjustment", "elr", "relay"]


@dataclass(frozen=True, kw_only=True)
class LossConfig(NVUMConfig, EntryLossConfig, ELRConfig, RelayConfig):
    """Which loss, and the settings of all of them; a loss reads its own only."""

    name: LossName = "nvum"
    """`bce`, `nvum`, `label_smoothing`, `focal`, `asl`, `gce`, `logit_adjustment`, `elr` or `relay`; see
    `trainer.methods`."""

    def __post_init__(self) -> None:
        for settings in (NVUMConfig, EntryLossConfig, ELRConfig, RelayConfig):
            settings.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class LossInputs:
    """All that a loss may look at in a step."""

    logits_BC: torch.Tensor
    """Student logits, any floating type."""

    teacher_logits_BC: torch.Tensor
    """The EMA teacher's, where the loss reads them and there is a teacher; else the student's, detached."""

    targets_BC: torch.Tensor
    """Labels in [0, 1]."""

    mask_BC: torch.Tensor
    """bool: labelled entries."""

    index_B: torch.Tensor
    """int64 `sample_index`; -1 marks a row that does not count."""

    num_global: int
    """Rows that count in this step over all ranks."""

    memory: NVUMMemory | None = None
    """Rows of the whole pack, `memory_columns` values an output, where the loss has a memory."""

    log_prior_C: torch.Tensor | None = None
    """Logarithm of the class prior, in the form that `loss.prior_form` says."""

    log_odds_C: torch.Tensor | None = None
    """Logarithm of prior / (1 - prior), of the plain class prior."""

    perm_B: torch.Tensor | None = None
    """int64: the row that each row's memory is mixed with; None: none."""

    lam: float = 1.0
    """Share of a row's own memory."""

    epoch: int = 0
    """Which one it is, from 0."""

    num_epochs: int = 1
    """Epochs of the run."""


@dataclass(frozen=True, kw_only=True)
class LossMethod:
    """A loss that `loss.name` can choose."""

    compute: Callable[[LossInputs, LossConfig], LossParts]
    """The loss of a step; where there is a memory, it is written."""

    source: str
    """Paper."""

    memory_columns: int = 0
    """Values that the memory holds for each output of a sample; 0: there is no memory."""

    reads_teacher: bool = False
    """Whether it remembers a teacher's logits; `ema.enabled=auto` then means on. With it memory rows are mixed."""

    generation: Callable[[int, int, LossConfig], Generation] | None = None
    """Of an epoch (from 0), the epochs of the run and the settings: in which generation of weights it is. Weights and
    the learning rate's schedule begin anew with each, the memory goes on. None: there is one."""


def _nvum(inputs: LossInputs, config: LossConfig) -> LossParts:
    assert inputs.memory is not None
    assert inputs.log_prior_C is not None
    return nvum_step(
        inputs.logits_BC,
        inputs.teacher_logits_BC,
        inputs.targets_BC,
        inputs.mask_BC,
        inputs.index_B,
        memory=inputs.memory,
        log_prior_C=inputs.log_prior_C,
        perm_B=inputs.perm_B,
        lam=inputs.lam,
        config=config,
        num_global=inputs.num_global,
    )


def _elr(inputs: LossInputs, config: LossConfig) -> LossParts:
    assert inputs.memory is not None
    return elr_step(
        inputs.logits_BC,
        inputs.targets_BC,
        inputs.mask_BC,
        inputs.index_B,
        memory=inputs.memory,
        config=config,
        num_global=inputs.num_global,
    )


def _relay(inputs: LossInputs, config: LossConfig) -> LossParts:
    assert inputs.memory is not None
    assert inputs.log_odds_C is not None
    return relay_step(
        inputs.logits_BC,
        inputs.teacher_logits_BC,
        inputs.targets_BC,
        inputs.mask_BC,
        inputs.index_B,
        memory=inputs.memory,
        log_odds_C=inputs.log_odds_C,
        generation=generation_of(inputs.epoch, inputs.num_epochs, config),
        config=config,
        num_global=inputs.num_global,
    )


def _bce(inputs: LossInputs, config: LossConfig) -> LossParts:
    return bce_loss(inputs.logits_BC, inputs.targets_BC, inputs.mask_BC, inputs.index_B, num_global=inputs.num_global)


def _by_entry(
    entries: Callable[[torch.Tensor, torch.Tensor, EntryLossConfig], torch.Tensor],
) -> Callable[[LossInputs, LossConfig], LossParts]:
    """Return the computation of a loss that needs nothing but logits and targets."""

    def compute(inputs: LossInputs, config: LossConfig) -> LossParts:
        return entry_loss(
            lambda logits_BC, targets_BC: entries(logits_BC, targets_BC, config),
            inputs.logits_BC,
            inputs.targets_BC,
            inputs.mask_BC,
            inputs.index_B,
            num_global=inputs.num_global,
        )

    return compute


def _logit_adjustment(inputs: LossInputs, config: LossConfig) -> LossParts:
    assert inputs.log_odds_C is not None
    return _by_entry(partial(adjusted_entries, log_odds_C=inputs.log_odds_C))(inputs, config)


METHODS: dict[LossName, LossMethod] = {
    "bce": LossMethod(compute=_bce, source="binary cross-entropy"),
    "nvum": LossMethod(
        compute=_nvum,
        source="Liu et al., MICCAI 2022, arXiv 2103.04053",
        memory_columns=1,
        reads_teacher=True,
    ),
    "label_smoothing": LossMethod(
        compute=_by_entry(smoothed_entries), source="Szegedy et al., CVPR 2016, arXiv 1512.00567"
    ),
    "focal": LossMethod(compute=_by_entry(focal_entries), source="Lin et al., ICCV 2017, arXiv 1708.02002"),
    "asl": LossMethod(compute=_by_entry(asymmetric_entries), source="Ridnik et al., ICCV 2021, arXiv 2009.14119"),
    "gce": LossMethod(
        compute=_by_entry(generalised_entries), source="Zhang and Sabuncu, NeurIPS 2018, arXiv 1805.07836"
    ),
    "logit_adjustment": LossMethod(compute=_logit_adjustment, source="Menon et al., ICLR 2021, arXiv 2007.07314"),
    "elr": LossMethod(compute=_elr, source="Liu et al., NeurIPS 2020, arXiv 2007.00151", memory_columns=2),
    "relay": LossMethod(
        compute=_relay,
        source="this project, trainer/NOISE_STUDY.md",
        memory_columns=2,
        reads_teacher=True,
        generation=generation_of,
    ),
}
"""Name -> loss. A new one gets its entry here and its name in `LossName`; nothing else knows the names."""
